"""Puts Hearth's sampler into vLLM's model runners, or leaves vLLM's own, and says which.

A runner's module is changed right after its import: the name `Sampler` there is bound to a subclass of vLLM's. When
vLLM is not as expected, nothing is changed and the log says what is missing.
"""

from __future__ import annotations

import functools
import logging
from types import ModuleType
from typing import Any

from server.replicas.vllm_sampler_hook import after_import
from server.replicas.vllm_sampler_pins import NEWER, OLDER, missing

log = logging.getLogger("vllm.hearth")


def install(wanted: bool) -> None:
    """Replaces the sampler of the runners as they are imported; not `wanted`: says that vLLM's own is in use."""
    for name in (OLDER, NEWER):
        after_import(name, replace if wanted else lambda _: _say_off())


def replace(runner: ModuleType) -> None:
    """Binds `Sampler` in a runner's module to Hearth's, where vLLM is as expected."""
    try:
        lacking = missing(runner)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        lacking = [str(error)]
    if lacking:
        log.warning(
            "sampling: vLLM's own sampler stays in %s: vLLM %s lacks %s",
            runner.__name__, version(), ", ".join(lacking),
        )  # fmt: skip
    elif runner.__name__ == OLDER:
        _replace_older(runner)
    else:
        _replace_newer(runner)


def _replace_older(runner: Any) -> None:
    from server.replicas.vllm_sampler_batch import BatchSampler
    from server.replicas.vllm_sampler_start import with_requests

    runner.Sampler = BatchSampler
    runner.build_logitsprocs = with_requests(runner.build_logitsprocs)


def _replace_newer(runner: Any) -> None:
    from server.replicas.vllm_sampler_device import DeviceSampler

    runner.Sampler = DeviceSampler
    create = runner.create_watermarker

    @functools.wraps(create)
    def saying(*args: Any, **kwargs: Any) -> Any:
        log.warning("sampling: vLLM's own sampler, as Hearth's does not cover watermarks")
        return create(*args, **kwargs)

    runner.create_watermarker = saying


@functools.cache
def _say_off() -> None:
    log.info("sampling: vLLM's own sampler (HEARTH_SAMPLER is off)")


def version() -> str:
    """vLLM's version."""
    import vllm

    return str(vllm.__version__)
