"""Replicas and engines forked from one process per machine that has imported what they need.

`starter` runs in place of Python and hands its command line over, `mother` forks, `adopted` makes the fork the process
that was asked for, `imported` knows what was imported and which environments that holds for.
"""
