"""A replica's beats: what it tells the controller about itself, once a second and at every change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import structlog

from server.audit.sampling import Sampled
from server.beat import INTERVAL_S, Beat
from server.capture.capturing import Capturing
from server.guard.gate import Gate
from server.guard.rates import Rates
from server.http_client import HttpClient
from server.identity.snapshot import Snapshot
from server.metrics.periods import Periods
from server.nodes import calling
from server.replicas.plan import Home
from server.shadow.charged import Charged
from server.shadow.copier import Copier
from server.shadow.copies import Target
from server.spec import Capture

log = structlog.get_logger(__name__)

CALL_TIMEOUT_S = 2.0
SNAPSHOT_TIMEOUT_S = 10.0


class Heart:
    """Posts `read()` to the controller, with what was measured since, the calls that the audit log is to have and what
    was found out about shadow variants. A controller that does not answer is tried again at the next beat."""

    def __init__(
        self,
        home: Home,
        read: Callable[[], Beat],
        periods: Periods,
        sampled: Sampled,
        gate: Gate,
        copier: Copier,
        rates: Rates | None = None,
        charged: Charged | None = None,
        capturing: Capturing | None = None,
        adapt: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        """`adapt` is told which adapters the replica is to hold."""
        self._home = home
        self._adapt = adapt
        self._adapters_known = adapt is None
        self._read = read
        self._gate = gate
        self._rates = rates or Rates()
        self._charged = charged
        self._capturing = capturing
        self._periods = periods
        self._sampled = sampled
        self._copier = copier
        self._wanted = asyncio.Event()
        self._saying = asyncio.Lock()
        """One beat at a time: their answers must come in their order."""
        self._client = HttpClient(
            base_url=home.beat_url,
            headers={"authorization": f"Bearer {home.token}"},
            timeout=CALL_TIMEOUT_S,
            trust_env=False,
            verify=calling(home.nodes),
        )
        self._task = asyncio.create_task(self._run())

    def beat_now(self) -> None:
        """Has the next beat sent at once."""
        self._wanted.set()

    async def say(self, *, last: bool = False) -> bool:
        """Sends one beat; True when the controller says that requests may still be routed here.

        `last`: with all that was measured, as no other beat follows.
        """
        async with self._saying:
            return await self._say(last)

    async def _say(self, last: bool) -> bool:
        periods = self._periods.closed(all_of_them=last)
        calls, dropped = self._sampled.take(all_of_them=last)
        shadow = self._copier.message()
        message = {
            "beat": self._read().to_wire(),
            "periods": periods,
            "calls": {"sampled": [each.to_wire() for each in calls], "dropped": dropped},
            "keys_used": self._gate.authority.take_used(),
            "rates": self._rates.report(self._home.account).to_wire(),
            "shadow": shadow,
        }
        try:
            reply = await self._client.post("/beats", json=message)
            answer = reply.raise_for_status().json()
        except BaseException as error:
            self._sampled.put_back(calls, dropped)
            if not isinstance(error, httpx.HTTPError):
                raise
            log.warning("beat not delivered", error=str(error) or type(error).__name__)
            return True
        self._copier.delivered(shadow)
        self._copier.aim(None if answer["shadow"] is None else Target.from_wire(answer["shadow"]))
        if self._capturing is not None:
            captures = answer["capture"]
            self._capturing.aim(None if captures is None else Capture.model_validate(captures))
        if self._charged is not None:
            self._charged.shadow(answer["is_shadow"])
        await self._learn(answer["identities"])
        self._rates.learn(answer["rates"])
        if self._adapt is not None and answer["adapters"] is not None:
            self._adapt(answer["adapters"])
            self._adapters_known = True
        if answer["kept"]:
            self._periods.delivered(periods)
        return bool(answer["routed"])

    async def know(self) -> None:
        """Returns once the controller has said who may call this replica, how much, and which adapters it holds."""
        while not self._knows:
            await self.say()
            if not self._knows:
                await asyncio.sleep(INTERVAL_S)

    @property
    def _knows(self) -> bool:
        return self._gate.required is not None and self._rates.known and self._adapters_known

    async def _learn(self, version: int | None) -> None:
        """Sees to it that the gate decides by the identities of `version`; None: nobody is asked."""
        if version is not None and version != self._gate.authority.version:
            try:
                reply = await self._client.get("/identities", timeout=SNAPSHOT_TIMEOUT_S)
                snapshot = Snapshot.from_wire(reply.raise_for_status().json())
            except httpx.HTTPError as error:
                log.warning("identities not fetched", error=str(error) or type(error).__name__)
                return
            self._gate.authority.load(snapshot)
        self._gate.required = version is not None

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._client.aclose()

    async def _run(self) -> None:
        while True:
            await self.say()
            self._wanted.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), INTERVAL_S)
