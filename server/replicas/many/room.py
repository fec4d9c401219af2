"""Who must go so that another model finds room. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from server.replicas.many.model import Model


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes of memory for all models, models at once, and the seconds of `ManyOptions`."""

    bytes: int
    models: int
    loads: int
    wait_s: float
    load_s: float
    check_s: float


def victims(idle: Iterable[Model], excess_bytes: int, excess_models: int) -> list[Model] | None:
    """The first of `idle`, the least recently used first, whose going frees so much; None: all together free less."""
    chosen: list[Model] = []
    for model in idle:
        if excess_bytes <= 0 and excess_models <= 0:
            break
        chosen.append(model)
        excess_bytes -= model.bytes
        excess_models -= 1
    return chosen if excess_bytes <= 0 and excess_models <= 0 else None
