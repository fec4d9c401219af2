"""Who sends what comes to the door, and may they? Nobody is asked where there is no keeper."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from server.door.body import CONTROL_BYTES, TIMEOUT_S
from server.errors import BadRequest, BodyTooLarge, RequestTimeout
from server.identity.authority import Authority, Claim
from server.identity.bearer import ACTION as CALL_WITH_BEARER
from server.identity.caller import Caller
from server.identity.canonical import Sent
from server.identity.directory import note_used
from server.identity.judge import Judge
from server.identity.policy import context as conditions
from server.identity.snapshot import Camera
from server.store.store import Store

SERVICES = ("sagemaker",)
"""What requests to the door's own routes have to be signed for."""
REMEMBER_S = 5.0
"""Between two writes of when keys were last used."""


class Doorkeeper:
    """Decides from identities as they are in the store: a key that is revoked is refused from the next request on."""

    def __init__(self, authority: Authority, judge: Judge, camera: Camera, region: str) -> None:
        self.authority = authority
        self.judge = judge
        self._camera = camera
        self._region = region
        self._mutex = asyncio.Lock()

    async def fresh(self) -> None:
        """Sees to it that the authority has what the store has. Raises SealBroken, VaultLocked."""
        if await asyncio.to_thread(self._camera.version) == self.authority.version:
            return
        async with self._mutex:
            if await asyncio.to_thread(self._camera.version) != self.authority.version:
                self.authority.load(await asyncio.to_thread(self._camera.take))

    async def remember(self, store: Store) -> None:
        """Keeps when access keys were last used, until it is cancelled; the last seconds too."""
        try:
            while True:
                await asyncio.sleep(REMEMBER_S)
                await asyncio.to_thread(note_used, store, self.authority.take_used())
        finally:
            note_used(store, self.authority.take_used())

    async def claim(self, scope: Scope, services: Collection[str] = SERVICES) -> Claim:
        """What can be known before the body is here. Raises Unauthenticated."""
        await self.fresh()
        return self.authority.claim(Sent.of(scope), services=services)

    async def caller(self, scope: Scope, body: bytes, services: Collection[str]) -> Caller:
        """Raises Unauthenticated."""
        return self.authority.prove(await self.claim(scope, services), body)

    async def admit(self, request: Request, asks: Sequence[tuple[str, str]]) -> None:
        """Puts the caller into the request's state. Raises Unauthenticated, or Forbidden. The body stays readable."""
        claim = await self.claim(request.scope)
        body = b"" if claim.caller is not None else await _body(request)
        caller = request.state.caller = self.authority.prove(claim, body)
        name = next(iter(request.path_params.values()), "")
        for action, kind in asks:
            self.check(caller, request.scope, action, self.arn(caller.account, kind, name) if kind else "*")

    def arn(self, account: str, kind: str, name: str) -> str:
        return f"arn:aws:sagemaker:{self._region}:{account}:{kind}/{name.lower()}"

    def check(self, caller: Caller, scope: Scope, action: str, resource: str) -> None:
        """`resource` is of the caller's account: nobody reaches another's. Raises Forbidden."""
        needed = (f"sagemaker:{CALL_WITH_BEARER}", action) if caller.bearer else (action,)
        for each in needed:
            self.judge.check(caller, caller.account, each, resource, lambda: self._facts(caller, scope))

    def _facts(self, caller: Caller, scope: Scope) -> dict[str, tuple[str, ...]]:
        headers = Headers(scope=scope)
        return {
            **conditions.of_principal(caller, tags=caller.tags),
            **conditions.of_request(
                source_ip=headers.get("x-forwarded-for", ""), secure=headers.get("x-forwarded-proto") == "https",
                region=self._region, user_agent=headers.get("user-agent", ""),
            ),
        }  # fmt: skip


def caller_of(request: Request) -> Caller | None:
    """Who was admitted; None where nobody is asked, or nobody was known."""
    found = getattr(request.state, "caller", None)
    return found if isinstance(found, Caller) else None


def tenant_of(caller: Caller | None, own: str) -> str:
    """A caller's account as beats and routes have it: empty for this Hearth's own."""
    return "" if caller is None or caller.account == own else caller.account


def seen_by(request: Request, store: Store) -> Store:
    """The store as the caller's account sees it; `store` where nobody is asked who they are."""
    caller = caller_of(request)
    return store if caller is None else store.of(caller.account)


async def _body(request: Request) -> bytes:
    """Of a signed request, which covers it."""
    size = request.headers.get("content-length", "0")
    if "transfer-encoding" in request.headers or not size.isdecimal():
        raise BadRequest("A signed request needs a Content-Length.")
    if int(size) > CONTROL_BYTES:
        raise BodyTooLarge(f"The body is larger than {CONTROL_BYTES} bytes.")
    try:
        return await asyncio.wait_for(request.body(), TIMEOUT_S)
    except (TimeoutError, ClientDisconnect):
        raise RequestTimeout(f"The body did not arrive within {TIMEOUT_S:.0f} s.") from None
