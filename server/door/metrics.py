"""Many expositions of Prometheus text made one: the edge's, the door's, every replica's.

Prometheus wants each family once: its HELP and TYPE, then all its samples. Ours come from many processes, so
samples are regrouped by family and told apart by labels that say where they come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, generate_latest

_OWN = CollectorRegistry()
SCRAPE_ERRORS = Counter("hearth_scrape_errors", "Sources of metrics that could not be read.", registry=_OWN)

_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*"'
_VALUE = r"(?:[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[iI][nN][fF])|[nN][aA][nN])"
_SAMPLE = re.compile(
    rf"([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*(?:\{{[ \t]*((?:{_LABEL}(?:[ \t]*,[ \t]*|(?=[ \t]*\}})))*)[ \t]*\}})?"
    rf"[ \t]+({_VALUE}(?:[ \t]+-?[0-9]+)?)[ \t]*"
)
_HEADER = re.compile(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*)(?:[ \t]+(.*))?")
_LABEL_NAME = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="(?:[^"\\]|\\.)*"')
_SUFFIXES = {
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}
_TYPES = frozenset(("counter", "gauge", "histogram", "summary", "untyped"))


class _Broken(Exception):
    """A source that is no exposition, or says something else about a family than the sources before it."""


@dataclass(slots=True)
class _Family:
    help: str | None = None
    type: str | None = None
    samples: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, labels as written between the braces, value and timestamp."""


def merge(sources: Iterable[tuple[Mapping[str, str], str]]) -> bytes:
    """One exposition of all sources; each source's labels are added to its samples that lack them.

    A source that cannot be read as a whole is left out as a whole and counted in
    ``hearth_scrape_errors_total``, which the result carries.
    """
    merged: dict[str, _Family] = {}
    seen: set[tuple[str, str]] = set()
    for labels, text in sources:
        try:
            _add(merged, seen, _parse(text, labels))
        except _Broken:
            SCRAPE_ERRORS.inc()
    _add(merged, seen, _parse(generate_latest(_OWN).decode(), {}))
    return "".join(_lines(merged)).encode()


def _parse(text: str, extra: Mapping[str, str]) -> dict[str, _Family]:
    families: dict[str, _Family] = {}
    members: dict[str, str] = {}
    added = _Added(extra)
    for line in text.split("\n"):
        if not line or line.isspace():
            continue
        if line[0] == "#":
            _note_header(line, families, members)
            continue
        match = _SAMPLE.fullmatch(line)
        if match is None:
            raise _Broken(line[:200])
        name, labels, value = match.groups()
        family = families.setdefault(members.get(name, name), _Family())
        family.samples.append((name, added.to(labels), value))
    return families


def _note_header(line: str, families: dict[str, _Family], members: dict[str, str]) -> None:
    match = _HEADER.fullmatch(line)
    if match is None:
        return
    kind, name, rest = match.groups(default="")
    family = families.setdefault(name, _Family())
    if kind == "HELP":
        family.help = rest
        return
    if rest not in _TYPES or (family.type is not None and family.type != rest):
        raise _Broken(line[:200])
    family.type = rest
    members.update({name + suffix: name for suffix in _SUFFIXES.get(rest, ())})


class _Added:
    """Labels to add; the many samples of a source have few different sets of labels, so each is done once."""

    def __init__(self, extra: Mapping[str, str]) -> None:
        self._extra = extra
        self._done: dict[str | None, str] = {}

    def to(self, labels: str | None) -> str:
        done = self._done.get(labels)
        if done is None:
            done = self._done[labels] = self._join(labels)
        return done

    def _join(self, labels: str | None) -> str:
        own = (labels or "").strip().rstrip(",").rstrip()
        names = _LABEL_NAME.findall(own)
        if len(set(names)) != len(names):
            raise _Broken(f"a label twice: {own[:200]}")
        more = [f'{name}="{_escaped(value)}"' for name, value in self._extra.items() if name not in names]
        return ",".join([*more, own] if own else more)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _add(merged: dict[str, _Family], seen: set[tuple[str, str]], families: Mapping[str, _Family]) -> None:
    """All of a source or nothing of it. Raises _Broken."""
    fresh = {(name, labels) for family in families.values() for name, labels, _ in family.samples}
    if len(fresh) != sum(len(family.samples) for family in families.values()) or not fresh.isdisjoint(seen):
        raise _Broken("a series twice")
    for name, family in families.items():
        there = merged.get(name)
        if there is not None and (there.type or "untyped") != (family.type or "untyped"):
            raise _Broken(f"{name} is {there.type} elsewhere and {family.type} here")
    seen |= fresh
    for name, family in families.items():
        there = merged.setdefault(name, _Family(family.help, family.type))
        there.samples += family.samples


def _lines(families: Mapping[str, _Family]) -> Iterable[str]:
    for name, family in families.items():
        if family.help is not None:
            yield f"# HELP {name} {family.help}\n"
        if family.type is not None:
            yield f"# TYPE {name} {family.type}\n"
        for sample, labels, value in family.samples:
            yield f"{sample}{{{labels}}} {value}\n" if labels else f"{sample} {value}\n"
