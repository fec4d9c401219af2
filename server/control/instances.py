"""SageMaker's instance types as what Ray reserves for one replica.

A type's name says its size: `ml.FAMILY.SIZE`. One machine has to carry what AWS would spread over many, so a
replica reserves one CPU whatever its instance type, and cards up to what the machine has; with
`reserve_instances` it reserves all that its type has on AWS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from server.spec import Resources

CPUS: Mapping[str, float] = {"medium": 1, "large": 2, "xlarge": 4}
"""By size; an `Nxlarge` has N times an xlarge's."""
UNUSUAL_CPUS: Mapping[str, float] = {"ml.t2.medium": 2, "ml.c4.8xlarge": 36}

CARDS: Mapping[str, Mapping[str, float]] = {
    "g4dn": {"12xlarge": 4},
    "g5": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "g6": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "g6e": {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "g7": {"12xlarge": 2, "24xlarge": 4, "48xlarge": 8},
    "g7e": {"12xlarge": 2, "24xlarge": 4, "48xlarge": 8},
    "p2": {"8xlarge": 8, "16xlarge": 16},
    "p3": {"8xlarge": 4, "16xlarge": 8},
    "p4d": {"24xlarge": 8},
    "p4de": {"24xlarge": 8},
    "p5": {"48xlarge": 8},
    "p5e": {"48xlarge": 8},
    "p5en": {"48xlarge": 8},
    "p6-b200": {"48xlarge": 8},
    "p6-b300": {"48xlarge": 8},
    "p6e-gb200": {"36xlarge": 4},
}
"""NVIDIA cards of the families that have any, by size; one where a size is not named."""

DRIVER = Path("/proc/driver/nvidia/gpus")
"""One entry for each card, where NVIDIA's driver is loaded."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What replicas may reserve here."""

    cards: int = 0
    reserve: bool = False
    """Reserve what the instance type has on AWS, whatever this machine has."""

    @classmethod
    def here(cls, reserve: bool) -> Machine:
        return cls(len(list(DRIVER.iterdir())) if DRIVER.is_dir() else 0, reserve)


def on_aws(instance_type: str) -> Resources:
    """What an instance of this type has: `ml.g5.12xlarge` is 48 CPUs and 4 cards."""
    _, family, size = instance_type.split(".")
    cpus = UNUSUAL_CPUS.get(instance_type) or CPUS.get(size) or float(size.removesuffix("xlarge")) * CPUS["xlarge"]
    return Resources(num_cpus=cpus, num_gpus=CARDS[family].get(size, 1) if family in CARDS else 0)


def reserved(instance_type: str | None, machine: Machine) -> Resources:
    """What one replica reserves; None: serverless, which has no card."""
    if instance_type is None:
        return Resources()
    wanted = on_aws(instance_type)
    return wanted if machine.reserve else Resources(num_gpus=min(wanted.num_gpus, machine.cards))
