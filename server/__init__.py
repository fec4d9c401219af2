"""Hearth's server: edge, door, store, controller and the replicas they run."""

__version__ = "0.1.0"
