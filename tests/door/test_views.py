"""What an account sees of the state of replicas and of the merged metrics."""

from __future__ import annotations

import pytest

from server.door.control_client import of_account
from server.door.scrape import View, _counted
from server.identity.caller import Caller

OWN, ONE, OTHER = "123456789012", "210987654321", "333333333333"
EDGE = f"""\
# TYPE haproxy_backend_status gauge
haproxy_process_uptime_seconds 1
haproxy_frontend_status{{proxy="public",state="UP"}} 1
haproxy_backend_status{{proxy="ep.a",state="UP"}} 1
haproxy_backend_status{{proxy="ep.{ONE}:a",state="UP"}} 1
haproxy_server_status{{proxy="ep.{OTHER}:a.V",server="V.0"}} 1
haproxy_backend_status{{proxy="door",state="UP"}} 1"""
STATE = {
    "settled": True,
    "replicas": [
        {"replica_id": account or "own", "endpoint": "a", "variant": "V", "phase": "ready", "account": account}
        for account in ("", ONE, OTHER)
    ],
    "waiting": {"a": 1, f"{ONE}:a": 2, f"{OTHER}:b": 3},
}


def caller(account: str, id: str = "") -> Caller:
    return Caller(account, f"arn:aws:iam::{account}:x", id or account)


@pytest.mark.parametrize(
    ("who", "lines"),
    [
        (None, 7),  # nobody is asked
        (caller(OWN), 7),
        (caller(OWN, "AIDA"), 5),
        (caller(ONE), 2),
        (caller(ONE, "AIDA"), 2),
        (caller("444444444444"), 1),
    ],
)
def test_the_edge_s_series_are_those_of_the_account(who: Caller | None, lines: int) -> None:
    shown = View.of(who, OWN).edge(EDGE)
    assert len(shown.splitlines()) == lines
    if who is not None and who.id != OWN:
        assert not [other for other in (ONE, OTHER) if other != who.account and other in shown]
    if who is not None and who.account != OWN:
        assert "ep.a" not in shown
        assert "public" not in shown


@pytest.mark.parametrize(("account", "waiting"), [("", {"a": 1}), (ONE, {"a": 2}), (OTHER, {"b": 3}), ("4" * 12, {})])
def test_the_state_is_that_of_the_account(account: str, waiting: dict[str, int]) -> None:
    shown = of_account(STATE, account)
    assert [each["account"] for each in shown["replicas"]] == ([account] if waiting else [])
    assert (shown["waiting"], shown["settled"]) == (waiting, True)


def test_of_everything_each_series_says_whose_it_is() -> None:
    text = _counted(STATE, "")
    assert text.count("hearth_replicas{") == 3
    assert f'hearth_waiting{{EndpointName="b",account="{OTHER}"}} 3.0' in text
    assert 'hearth_waiting{EndpointName="a",account=""} 1.0' in text
    assert f'hearth_waiting{{EndpointName="a",account="{ONE}"}} 2.0' in _counted(of_account(STATE, ONE), ONE)
