"""Everything at once, while one likes: traffic in every dialect, users who deploy and delete, every process killed.

The users and their faults are those of `benchmarks.crash`. `traffic.py` has the clients of endpoints that stay,
`strikes.py` kills what serves those, `verdict.py` tells the failures that an outage explains from the others,
`census.py` counts processes, files and memory.
"""
