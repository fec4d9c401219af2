"""The table of decisions in cases.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from server.identity.policy.document import Use
from server.identity.policy.evaluate import Access, Decisions, evaluate
from server.identity.policy.policy import Policy, compile_policy

ACCOUNT = "111122223333"
ANA = f"arn:aws:iam::{ACCOUNT}:user/ana"
GROUPS: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "cases.yaml").read_text())
CASES = [(group, ask) for group in GROUPS for ask in group["asks"]]


def _policy(group: dict[str, Any], statements: list[Any], use: Use) -> Policy:
    document = {"Version": group.get("version", "2012-10-17"), "Statement": statements}
    return compile_policy(document, id=group["group"], use=use)


def _identity(group: dict[str, Any]) -> list[Policy]:
    return [_policy(group, group["identity"], Use.INLINE)] if group["identity"] else []


def _others(group: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"resource_must_allow": group.get("must", False)}
    if "boundary" in group:
        found["boundary"] = _policy(group, group["boundary"], Use.INLINE)
    if "session" in group:
        found["session_policies"] = [_policy(group, statements, Use.SESSION) for statements in group["session"]]
    if "resource" in group:
        found["resource_policies"] = [_policy(group, group["resource"], Use.RESOURCE)]
    if "trust" in group:
        found["resource_policies"] = [_policy(group, group["trust"], Use.TRUST)]
    return found


def _access(group: dict[str, Any], ask: dict[str, Any]) -> Access:
    given = ask.get("with", {}).items()
    context = {key: tuple(value) if isinstance(value, list) else (value,) for key, value in given}
    principal = ask.get("as", group.get("principal", ANA))
    return Access(principal, ACCOUNT, ask["do"], ask.get("to", "*"), context)


def test_the_table_is_as_long_as_promised() -> None:
    assert len(CASES) >= 200
    assert {ask["is"] for _, ask in CASES} == {"allowed", "explicitDeny", "implicitDeny"}


@pytest.mark.parametrize(("group", "ask"), CASES, ids=[f"{group['group']}: {ask}" for group, ask in CASES])
def test_decision(group: dict[str, Any], ask: dict[str, Any]) -> None:
    decision = evaluate(_access(group, ask), _identity(group), **_others(group))

    assert decision.outcome == ask["is"]
    assert decision.allowed == (ask["is"] == "allowed")
    if "by" in ask:
        assert decision.side == ask["by"]


@pytest.mark.parametrize("group", GROUPS, ids=[group["group"] for group in GROUPS])
def test_kept_decisions_are_the_same(group: dict[str, Any]) -> None:
    kept = Decisions()
    for _ in range(2):
        for ask in group["asks"]:
            decision = kept.decide(1, _access(group, ask), _identity(group), **_others(group))
            assert decision.outcome == ask["is"], ask
