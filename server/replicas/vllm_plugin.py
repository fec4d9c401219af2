"""Loaded by vLLM in each of its processes (entry point `vllm.general_plugins`): an engine ends with its replica.

Ray ends a dead replica's own process only; the engine's processes would live on with their memory, since they
do not watch their parent. The kernel does it for them.
"""

from __future__ import annotations

import os

from server.deathsig import die_with_parent
from server.settings import environment

REPLICA = "HEARTH_REPLICA_PID"
"""Environment variable that a replica sets before it starts its engine."""


def register() -> None:
    """Does nothing in a replica itself and in a vLLM that Hearth did not start."""
    replica = environment().get(REPLICA)
    if replica is not None and int(replica) != os.getpid():
        die_with_parent()
