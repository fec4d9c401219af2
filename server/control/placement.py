"""Whether copies of inference components fit on a variant's instances. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from server.spec import Resources

NO_ROOM = (
    "There are not enough hardware resources on the instances to create a copy of the inference component. Please "
    "increase number of instances on the endpoint or decrease resources required for InferenceComponent."
)


def fits(instances: int, size: Resources, wanted: Iterable[tuple[int, Resources]]) -> bool:
    """`wanted`: components as numbers of copies and what one takes; the largest are placed first, each copy on the
    first instance with room. `size`: of one instance."""
    left = [[size.num_gpus, size.num_cpus] for _ in range(instances)]
    for count, each in sorted(wanted, key=lambda pair: (-pair[1].num_gpus, -pair[1].num_cpus)):
        for _ in range(count):
            roomy = (room for room in left if room[0] >= each.num_gpus and room[1] >= each.num_cpus)
            if (chosen := next(roomy, None)) is None:
                return False
            chosen[0] -= each.num_gpus
            chosen[1] -= each.num_cpus
    return True
