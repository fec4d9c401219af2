"""Compile the sampling kernels for one architecture: `python -m tests.kernels.compile_sampling FOLDER ARCHITECTURE`.

A process of its own, because the tests' own Triton may interpret. Writes a cubin per variant; needs no GPU.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.sampling.arithmetic import TILE
from kernels.sampling.device import GROUP
from kernels.sampling.gpu import BLOCK, FINISH_OPTIONS, SCAN_OPTIONS
from kernels.sampling.gpu_kernel import finish_kernel, scan_kernel
from kernels.sampling.gpu_search import MANY
from kernels.sampling.gpu_values import NO_PENALTY, PENALTY_BITMAP, PENALTY_COUNTS

SIGNATURE: dict[str, Any] = {
    "tiles": "i32",
    "tiles_per_program": "i32",
    "filters": ("*fp32", "*i32", "*fp32"),
    "penalties": ("*fp32",) * 3,
    "seen": (*("*i32",) * 4, "i32", "i32"),
    "workspace": "*i64",
    "rows": ("*fp32", "*i32", "*fp32", "*fp32", "*fp32", "*i64", "*i64"),
    "out": ("*i64", "*fp32", "*i32", "*i32", "*fp32"),
    "top_count": "i32",
}


@dataclass(frozen=True)
class Variant:
    """What one launch compiles for: logits, then what some row needs."""

    dtype: str
    vocabulary: int
    penalty: int = NO_PENALTY.value
    weighted: bool = False
    filtered: bool = False
    reporting: bool = False

    def constants(self) -> dict[str, Any]:
        tiles = -(-self.vocabulary // TILE)
        groups = triton.next_power_of_2(tiles * (TILE // GROUP.value))
        needs = {name: getattr(self, name) for name in ("penalty", "weighted", "filtered", "reporting")}
        rooms = {"group_room": groups, "tile_room": triton.next_power_of_2(tiles)}
        return needs | rooms | {"block": BLOCK if groups <= MANY.value else BLOCK // 2}


SCANNED = {
    "greedy": Variant("bf16", 151936),
    "plain": Variant("bf16", 151936, weighted=True),
    "counted": Variant("bf16", 128256, PENALTY_COUNTS.value, filtered=True),
    "odd": Variant("fp16", 1001, PENALTY_BITMAP.value, weighted=True, filtered=True, reporting=True),
    "everything": Variant("fp32", 524288, PENALTY_BITMAP.value, weighted=True, filtered=True, reporting=True),
}
# Seconds each, and what does not spill in the largest does not in the others: one more for one architecture.
FINISHED = {name: SCANNED[name] for name in ("greedy", "plain", "everything")}
FINISHED_ONCE = {"filtered": Variant("bf16", 151936, filtered=True)}


def compiled(kernel: Any, variant: Variant, options: dict[str, Any], architecture: int) -> bytes:
    """The cubin of a kernel; strides and V are multiples of 16 where the vocabulary is one."""
    names = kernel.arg_names
    kinds = SIGNATURE | {"source": (f"*{variant.dtype}", "i32", "i32", "*fp32")}
    constants = {name: value for name, value in variant.constants().items() if name in names}
    signature = {name: kinds.get(name, "constexpr") for name in names}
    aligned = variant.vocabulary % 16 == 0
    attributes = {}
    for index, name in enumerate(names):
        kind = signature[name]
        parts = {(index, i): part for i, part in enumerate(kind)} if isinstance(kind, tuple) else {(index,): kind}
        for path, part in parts.items():
            if part.startswith("*") or (aligned and len(path) == 2):
                attributes[path] = [["tt.divisibility", 16]]
    paths = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature, constexprs=paths, attrs=attributes)
    target = GPUTarget("cuda", architecture, 32)
    return bytes(triton.compile(source, target=target, options=options).asm["cubin"])


def main(folder: Path, architecture: int) -> None:
    """Write every variant of both kernels to `folder`."""
    finished = FINISHED | (FINISHED_ONCE if architecture == 90 else {})
    for variants, part, kernel, options in (
        (SCANNED, "scan", scan_kernel, SCAN_OPTIONS),
        (finished, "finish", finish_kernel, FINISH_OPTIONS),
    ):
        for name, variant in variants.items():
            cubin = compiled(kernel, variant, options, architecture)
            (folder / f"{architecture}-{part}-{name}.cubin").write_bytes(cubin)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
