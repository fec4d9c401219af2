"""Budgets of callers: counted by what providers say, kept, and refused as clients know it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest
from botocore.exceptions import ClientError

from server.external.budgets import Budgets, OverBudget, who
from server.external.options import Budget
from server.identity.asking import CALLER
from server.identity.principal import Principal, root_arn
from server.store.store import Store, connect
from tests.external.conftest import ACCOUNT, Make, Serve, openai_at
from tests.external.providers import Provider

ANA = Principal(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ana", "AIDAANA")
BEN = Principal(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ben", "AIDABEN")
SAY: Any = [{"role": "user", "content": "one two three"}]
NIGHT = datetime(2026, 11, 30, 23, 59, 0, tzinfo=UTC)


def budgets(store: Store, budget: Budget, now: datetime = NIGHT, **own: Budget) -> Budgets:
    return Budgets(store, "m", budget, own, lambda: now)


def test_each_caller_has_its_own(store: Store) -> None:
    found = budgets(store, Budget(tokens_per_day=10))
    found.spend(ANA, 9)
    found.check(ANA)
    found.spend(ANA, 9)
    with pytest.raises(OverBudget, match="10 tokens a day") as caught:
        found.check(ANA)
    assert caught.value.retry_after == 60
    found.check(BEN)
    assert found.used(ANA.arn) == {"2026-11-30": 18, "2026-11": 18}


def test_a_day_and_a_month_end(store: Store) -> None:
    budget = Budget(tokens_per_day=10, tokens_per_month=15)
    budgets(store, budget, datetime(2026, 11, 29, tzinfo=UTC)).spend(ANA, 12)
    tomorrow = budgets(store, budget)
    tomorrow.check(ANA)
    tomorrow.spend(ANA, 4)
    with pytest.raises(OverBudget, match="15 tokens a month"):
        tomorrow.check(ANA)
    assert tomorrow.used(ANA.arn) == {"2026-11-30": 4, "2026-11": 16}
    december = budgets(store, budget, datetime(2026, 12, 1, tzinfo=UTC))
    december.check(ANA)
    december.spend(ANA, 1)
    assert december.used(ANA.arn) == {"2026-12-01": 1, "2026-12": 1}


def test_a_budget_of_ones_own(store: Store) -> None:
    found = Budgets(store, "m", Budget(tokens_per_day=1), {ANA.arn: Budget()}, lambda: NIGHT)
    for caller in (ANA, BEN):
        found.spend(caller, 100)
    found.check(ANA)
    with pytest.raises(OverBudget):
        found.check(BEN)


def test_a_session_spends_its_roles_tokens() -> None:
    role = f"arn:aws:sts::{ACCOUNT}:assumed-role/analyst"
    assert {who(Principal(ACCOUNT, f"{role}/{name}", "AROA:x", session=True), ACCOUNT) for name in "ab"} == {role}
    assert who(None, ACCOUNT) == root_arn(ACCOUNT)


def test_what_was_spent_is_there_after_a_restart(store: Store, tmp_path: Path) -> None:
    budgets(store, Budget(tokens_per_day=5)).spend(ANA, 5)
    engine = connect(f"sqlite:///{tmp_path / 'state' / 'hearth.db'}")
    with pytest.raises(OverBudget):
        budgets(Store(engine, ACCOUNT, "us-east-1"), Budget(tokens_per_day=5)).check(ANA)
    engine.dispose()


def test_replicas_count_together(store: Store) -> None:
    found = [budgets(store, Budget(tokens_per_day=1000)) for _ in range(2)]

    async def spend() -> None:
        await asyncio.gather(*(asyncio.to_thread(each.spend, ANA, 1) for each in found * 20))

    asyncio.run(spend())
    assert found[0].used(ANA.arn)["2026-11-30"] == 40


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_clients_are_refused_as_they_know_it(serve: Serve, provider: Provider, streamed: bool) -> None:
    served = serve(openai_at(provider), budget={"tokens-per-day": 14})
    client, runtime = served.openai(), served.boto3()
    answer = client.chat.completions.create(model="m", messages=SAY, stream=streamed)
    if streamed:
        list(answer)
    with pytest.raises(openai.RateLimitError, match="budget of 14 tokens a day"):
        client.chat.completions.create(model="m", messages=SAY, stream=streamed)
    body = json.dumps({"inputs": "one", "stream": streamed})
    invoke = runtime.invoke_endpoint_with_response_stream if streamed else runtime.invoke_endpoint
    with pytest.raises(ClientError) as caught:
        invoke(EndpointName="m", Body=body, ContentType="application/json")
    assert caught.value.response["Error"]["Code"] == "ThrottlingException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert len(provider.asked) == 1


def test_the_caller_of_a_request_pays(make: Make, provider: Provider) -> None:
    model = make(openai_at(provider), budget={"tokens_per_month": 14})

    async def ask(caller: Principal) -> None:
        CALLER.set(caller)
        async for _ in model.chain.chat({"messages": SAY}, stream=False):
            continue

    async def everyone() -> None:
        await asyncio.create_task(ask(ANA))
        await asyncio.create_task(ask(BEN))
        with pytest.raises(OverBudget):
            await asyncio.create_task(ask(ANA))
        await model.close()

    asyncio.run(everyone())
    assert model.chain.used == 28
