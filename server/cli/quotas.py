"""`hearth quotas`: what accounts may have, and what they ask for. For who owns the state folder."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from server.cli.callers import noted, opened
from server.cli.client import fail
from server.settings import Settings
from server.store import quotas
from server.store.quotas import QUOTAS, UNLIMITED, Defaults, Quota

DEFAULT, NONE = "default", "unlimited"


def put(settings: Settings, code: str, value: str, account: str | None, console: Console) -> None:
    """`value`: a number, `unlimited`, or `default` for what the settings say."""
    quota = _known(code)
    number = None if value == DEFAULT else _number(value)
    account = account or settings.account
    if len(account) != 12 or not account.isdigit():
        raise fail(f"{account!r} is no account; one has twelve digits.")
    with opened(settings) as store:
        quotas.put(store, account, quota, number)
        noted(settings, store.of(account), "SetQuota", quotaCode=quota.code, value=value)
        there = quotas.own(store).get(account, {}).get(quota.code, Defaults.of(settings).value(quota))
    console.print(f"{quota.code} of {account}: {_shown(there)}", highlight=False)


def show(settings: Settings, account: str | None, console: Console) -> None:
    defaults = Defaults.of(settings)
    table = Table("account", "code", "quota", "value", "", box=None)
    with opened(settings) as store:
        own = quotas.own(store)
        for each in [account] if account else sorted({settings.account, *own}):
            for quota in QUOTAS.values():
                value = own.get(each, {}).get(quota.code)
                shown = _shown(defaults.value(quota) if value is None else value)
                table.add_row(each, quota.code, f"{quota.name} ({quota.words})", shown, "" if value is None else "own")
    console.print(table)


def show_requests(settings: Settings, console: Console) -> None:
    with opened(settings) as store:
        table = Table("request", "account", "code", "value", "status", "by", "made", box=None)
        for each in quotas.requests(store, everyone=True):
            made = each.created_at.isoformat(timespec="minutes")
            table.add_row(each.id, each.account, each.code, _shown(each.desired), each.status, each.requester, made)
    console.print(table if table.row_count else "nobody has asked for more")


def decide(settings: Settings, id: str, *, grant: bool, console: Console) -> None:
    with opened(settings) as store:
        done = quotas.decide(store, id, grant=grant)
        decided = "ApproveQuotaRequest" if grant else "DenyQuotaRequest"
        noted(settings, store.of(done.account), decided, requestId=id, quotaCode=done.code, value=done.desired)
    console.print(f"{done.code} of {done.account}: {_shown(done.desired)} {done.status}", highlight=False)


def _known(code: str) -> Quota:
    if code.upper() not in QUOTAS:
        raise fail(f"There is no quota {code!r}; there are {', '.join(QUOTAS)}.")
    return QUOTAS[code.upper()]


def _number(text: str) -> float:
    try:
        value = UNLIMITED if text == NONE else float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= UNLIMITED:
        raise fail(f"{text!r}: expected a number from 0 on, `{NONE}` or `{DEFAULT}`.")
    return value


def _shown(value: float) -> str:
    return NONE if value >= UNLIMITED else f"{value:,.15g}"
