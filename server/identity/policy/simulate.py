"""IAM's simulator: the decisions of the evaluator, as SimulatePrincipalPolicy and SimulateCustomPolicy answer them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from server.identity.policy.evaluate import Access, Decision, Matched, evaluate
from server.identity.policy.policy import Policy

SOURCES: Mapping[str, str] = {
    "identity": "IAM Policy", "resource": "Resource Policy", "boundary": "PermissionsBoundary Policy",
    "session": "IAM Policy",
}  # fmt: skip
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Simulation:
    """`supplied` are context keys that the service itself would fill, which nobody needs to give."""

    principal_arn: str
    account: str
    identity_policies: Sequence[Policy]
    boundary: Policy | None = None
    resource_policies: Sequence[Policy] = ()
    context: Mapping[str, tuple[str, ...]] | None = None
    supplied: frozenset[str] = frozenset()


def entries(given: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """ContextEntries as a context."""
    return {entry["ContextKeyName"]: tuple(entry.get("ContextKeyValues", ())) for entry in given}


def simulate(simulation: Simulation, actions: Sequence[str], resources: Sequence[str] = ("*",)) -> list[dict[str, Any]]:
    """EvaluationResults: one of each action on each resource."""
    missing = missing_keys(simulation)
    return [
        _result(simulation, action, resource, missing) for action, resource in product(actions, resources or ("*",))
    ]


def context_keys(policies: Iterable[Policy]) -> list[str]:
    """ContextKeyNames: every condition key and variable that the policies name."""
    return sorted({key for policy in policies for key in policy.keys})


def missing_keys(simulation: Simulation) -> list[str]:
    """MissingContextValues: keys that the policies name and nobody gave."""
    policies = [*simulation.identity_policies, *simulation.resource_policies]
    policies += [simulation.boundary] if simulation.boundary is not None else []
    known = {key.lower() for key in simulation.context or {}} | {key.lower() for key in simulation.supplied}
    return [key for key in context_keys(policies) if key.lower() not in known]


def _result(simulation: Simulation, action: str, resource: str, missing: list[str]) -> dict[str, Any]:
    access = Access(simulation.principal_arn, simulation.account, action, resource, simulation.context or {})
    decision = evaluate(
        access, simulation.identity_policies,
        boundary=simulation.boundary, resource_policies=simulation.resource_policies,
    )  # fmt: skip
    result: dict[str, Any] = {
        "EvalActionName": action,
        "EvalResourceName": resource,
        "EvalDecision": decision.outcome,
        "MatchedStatements": [_statement(matched) for matched in decision.matched],
        "MissingContextValues": missing,
    }
    if simulation.boundary is not None:
        allowed = _boundary_allows(access, simulation.boundary, decision)
        result["PermissionsBoundaryDecisionDetail"] = {"AllowedByPermissionsBoundary": allowed}
    return result


def _boundary_allows(access: Access, boundary: Policy, decision: Decision) -> bool:
    if decision.boundary_allows is not None:
        return decision.boundary_allows
    return evaluate(access, [boundary]).allowed


def _statement(matched: Matched) -> dict[str, Any]:
    start, end = place(matched.policy.text, matched.index)
    return {
        "SourcePolicyId": matched.policy.id,
        "SourcePolicyType": SOURCES[matched.side],
        "StartPosition": _position(matched.policy.text, start),
        "EndPosition": _position(matched.policy.text, end),
    }


def place(text: str, index: int) -> tuple[int, int]:
    """Where in a policy's text its statement number `index` begins and ends."""
    for name, start, end in _members(text):
        if name == "Statement":
            return (start, end) if text[start] == "{" else list(_items(text, start))[index]
    raise LookupError(f"no statement {index}")


def _members(text: str) -> Iterator[tuple[str, int, int]]:
    at = text.index("{") + 1
    while text[at := _past(text, at, " \t\r\n,")] != "}":
        name, at = _DECODER.raw_decode(text, at)
        start = _past(text, at, " \t\r\n:")
        _, at = _DECODER.raw_decode(text, start)
        yield name, start, at


def _items(text: str, start: int) -> Iterator[tuple[int, int]]:
    at = start + 1
    while text[at := _past(text, at, " \t\r\n,")] != "]":
        _, end = _DECODER.raw_decode(text, at)
        yield at, end
        at = end


def _past(text: str, at: int, skipped: str) -> int:
    while text[at] in skipped:
        at += 1
    return at


def _position(text: str, at: int) -> dict[str, int]:
    """Line and column, counted from one."""
    before = text[:at]
    return {"Line": before.count("\n") + 1, "Column": at - (before.rfind("\n") + 1) + 1}
