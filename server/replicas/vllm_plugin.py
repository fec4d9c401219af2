"""Loaded by vLLM in each of its processes (entry point `vllm.general_plugins`).

An engine ends with its replica: Ray ends a dead replica's own process only; the engine's processes would live on with
their memory, since they do not watch their parent. The kernel does it for them. And an engine samples with
`kernels.sampling` (see `server.replicas.vllm_sampler`), and keeps requests with and without LoRA adapters apart
(`server.replicas.vllm_lora`).
"""

from __future__ import annotations

import os

from server.deathsig import die_with_parent
from server.prefork.adopted import forked
from server.replicas import vllm_lora, vllm_sampler
from server.settings import environment, switch

REPLICA = "HEARTH_REPLICA_PID"
"""Environment variable that a replica sets before it starts its engine."""

SAMPLER = "HEARTH_SAMPLER"
"""Environment variable: 1 or 0, whether an engine samples with Hearth's kernels; not set: it does in a replica."""


def register() -> None:
    """Changes nothing in a vLLM that Hearth did not start, unless `SAMPLER` asks for it.

    Raises SettingsError when `SAMPLER` is neither yes nor no.
    """
    replica = environment().get(REPLICA)
    if replica is not None and int(replica) != os.getpid() and not forked():
        die_with_parent()
    wanted = switch(SAMPLER)
    if replica is not None or wanted is not None:
        vllm_sampler.install(wanted is not False)
    if replica is not None:
        vllm_lora.install()
