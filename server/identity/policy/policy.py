"""A policy made ready: read once, asked often."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from server.identity.policy.conditions import Clause, Presence
from server.identity.policy.document import Entry, Use, read
from server.identity.policy.patterns import Arn, Text, Values
from server.identity.policy.principals import Named, Principals, Who

MAX_ACTIONS = 1024
"""Actions a policy keeps the statements of."""


@dataclass(frozen=True, slots=True)
class Statement:
    index: int
    sid: str
    allow: bool
    actions: tuple[Text, ...]
    not_actions: bool
    resources: tuple[Arn, ...] | None
    not_resources: bool
    principals: Principals | None
    not_principals: bool
    clauses: tuple[Clause | Presence, ...]
    contextual: bool
    """Whether the request's context has a say in it."""
    keys: frozenset[str]
    """Condition keys named anywhere, as written."""

    def covers(self, action: str) -> bool:
        """`action` is in lower case."""
        return any(pattern.matches(action, {}) for pattern in self.actions) != self.not_actions

    def applies(self, resource: str, values: Values) -> bool:
        """To an action that it covers. One whose NotResource names a variable without a value denies, never allows."""
        if self.resources is not None:
            if self.not_resources and not all(pattern.resolvable(values) for pattern in self.resources):
                return not self.allow and self._holds(values)
            for pattern in self.resources:
                if pattern.matches(resource, values):
                    if self.not_resources:
                        return False
                    break
            else:
                if not self.not_resources:
                    return False
        return self._holds(values)

    def _holds(self, values: Values) -> bool:
        for clause in self.clauses:  # noqa: SIM110 - a plain loop: this is the path of every request
            if not clause.holds(values):
                return False
        return True

    def names(self, asking: Who) -> Named:
        """How the statement names whoever asks; statements without a Principal are those of the identity itself."""
        if self.principals is None:
            return Named.ITSELF
        if not self.not_principals:
            return self.principals.names(asking)
        if self.allow:
            return Named.NOT if self.principals.names(asking) else Named.ITSELF
        return Named.NOT if self.principals.spares(asking) else Named.ITSELF


class Policy:
    """`id` names it in decisions: an ARN, or the name of an inline policy."""

    def __init__(self, id: str, text: str, statements: tuple[Statement, ...]) -> None:
        self.id = id
        self.text = text
        self.statements = statements
        self.keys: frozenset[str] = frozenset().union(*(statement.keys for statement in statements))
        self._covering: dict[str, tuple[tuple[Statement, ...], tuple[Statement, ...]]] = {}

    def covering(self, action: str) -> tuple[tuple[Statement, ...], tuple[Statement, ...]]:
        """The statements that deny an action (in lower case), and those that allow it."""
        found = self._covering.get(action)
        if found is None:
            covering = [statement for statement in self.statements if statement.covers(action)]
            found = tuple(s for s in covering if not s.allow), tuple(s for s in covering if s.allow)
            if len(self._covering) >= MAX_ACTIONS:
                self._covering.clear()
            self._covering[action] = found
        return found


def compile_policy(given: str | Mapping[str, Any], *, id: str = "", use: Use = Use.INLINE) -> Policy:
    """Raises MalformedPolicy. The same text is read once."""
    return _compile(given if isinstance(given, str) else json.dumps(given), id, use)


@lru_cache(maxsize=1024)
def _compile(text: str, id: str, use: Use) -> Policy:
    document = read(text, use)
    made = (_statement(index, entry, document.variables) for index, entry in enumerate(document.entries))
    return Policy(id or document.id, text, tuple(made))


def _statement(index: int, entry: Entry, variables: bool) -> Statement:
    resources = None
    if entry.resources is not None:
        resources = tuple(Arn(resource, variables=variables) for resource in entry.resources)
    used: frozenset[str] = frozenset().union(*(pattern.keys for pattern in resources or ()))
    return Statement(
        index=index,
        sid=entry.sid,
        allow=entry.allow,
        actions=tuple(Text(action.lower(), variables=False) for action in entry.actions),
        not_actions=entry.not_actions,
        resources=resources,
        not_resources=entry.not_resources,
        principals=entry.principals,
        not_principals=entry.not_principals,
        clauses=entry.conditions.clauses,
        contextual=bool(entry.conditions.clauses or used),
        keys=entry.conditions.keys | used,
    )
