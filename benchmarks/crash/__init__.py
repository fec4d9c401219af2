"""Kills Hearth's processes at random points of what users ask for, and checks that nothing acknowledged is lost.

Importing the package registers every rule of the reference.
"""

from benchmarks.crash import packages, rules

__all__ = ["packages", "rules"]
