"""The training text of the Python language model: the standard library of the running interpreter.

Every file is either training text or held-out text, decided by a hash of its path, so the split is the
same on every machine. Question-and-answer pairs are cut from the very same files, on the same side.
"""

import ast
import hashlib
import random
import sysconfig
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HELD_OUT_OF_256 = 13
"""A file is held out when the first byte of the SHA-256 of its path is below this (about 5 %)."""

EXCLUDED_PARTS = frozenset(
    {
        "site-packages",
        "dist-packages",
        "test",
        "tests",
        "idle_test",
        "turtledemo",
        "pydoc_data",
        "encodings",
        "_bundled",
        "__pycache__",
    }
)
"""Folder names left out: third-party code, tests, and tables or prose that are not ordinary code."""

MAX_PAIR_CHARS = 1400
"""Functions with longer source are left out of the pairs, so that a pair fits a training sequence."""


@dataclass(frozen=True)
class SourceFile:
    """One standard library module: `path` relative to the library's root, and its whole `text`."""

    path: str
    text: str

    @property
    def held_out(self) -> bool:
        """Whether this file is kept for measuring and never trained on."""
        return hashlib.sha256(self.path.encode()).digest()[0] < HELD_OUT_OF_256


@dataclass(frozen=True)
class Pair:
    """A request (`question`) and the function that answers it (`answer`), both plain text."""

    question: str
    answer: str


def stdlib_files(root: Path | None = None) -> list[SourceFile]:
    """All usable source files below `root` (default: this interpreter's library), sorted by path."""
    base = root or Path(sysconfig.get_paths()["stdlib"])
    return list(_read_files(base))


def _read_files(base: Path) -> Iterator[SourceFile]:
    for path in sorted(base.rglob("*.py")):
        relative = path.relative_to(base)
        generated = relative.name.startswith("_sysconfigdata")
        if generated or EXCLUDED_PARTS.intersection(relative.parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if len(text) > 200:
            yield SourceFile(relative.as_posix(), text.expandtabs(8))


def pairs(file: SourceFile, seed: int = 0) -> list[Pair]:
    """The documented functions of `file`, each as a request in words and the function's source."""
    try:
        tree = ast.parse(file.text)
    except SyntaxError:
        return []
    rng = random.Random(f"{seed}:{file.path}")
    found = (_pair(file.text, node, rng) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return [pair for pair in found if pair is not None]


def _pair(text: str, node: ast.FunctionDef, rng: random.Random) -> Pair | None:
    doc = ast.get_docstring(node)
    source = ast.get_source_segment(text, node, padded=True)
    if not doc or source is None or len(source) > MAX_PAIR_CHARS or len(node.body) < 2:
        return None
    summary = " ".join(doc.split("\n\n")[0].split())
    signature = f"{node.name}({ast.unparse(node.args)})"
    return Pair(_question(summary, signature, node.name, rng), textwrap.dedent(source).strip())


def _question(summary: str, signature: str, name: str, rng: random.Random) -> str:
    """One of several phrasings, so that no single wording is needed to get a function back."""
    lowered = summary[:1].lower() + summary[1:]
    return rng.choice(
        (
            summary,
            f"Write a Python function: {lowered}",
            f"Write a function {name} to {lowered}",
            f"Write the function {signature}. {summary}",
            f"def {signature}: {summary}",
            f"{name}: {summary}",
        )
    )
