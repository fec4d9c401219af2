"""The object store's gate where callers are asked who they are: verified signatures, and IAM's word on each action."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from server.door.keeper import Doorkeeper
from server.errors import Forbidden, Unauthenticated
from server.identity.caller import Caller as Known
from server.identity.object_gate import StrictGate
from server.identity.policy import context as conditions
from server.identity.policy.objects import asks
from server.objects.errors import ObjectError
from server.objects.key_use import Uses
from server.objects.request import Request
from server.objects.signature import Caller, Keys

_TOKEN = "x-amz-security-token"


class ObjectGate:
    """`Doorkeeper.fresh` has to come before a request reaches it."""

    def __init__(self, keeper: Doorkeeper) -> None:
        self._keeper = keeper
        self._authority = keeper.authority
        self._strict = StrictGate(keeper.authority.lookup)

    def admit(self, request: Request) -> Caller:
        """Raises ObjectError in S3's words."""
        self._authority.open(request.headers.get(_TOKEN) or request.query.get("X-Amz-Security-Token"))
        caller = self._strict.admit(request)
        self._authority.note(caller.access_key, "s3", "")
        return caller

    def permit(self, caller: Caller, request: Request, operation: str, keys: Keys) -> None:
        """Raises AccessDenied."""
        try:
            known = self._authority.caller(caller.access_key)
            for ask in asks(operation, request.bucket, request.key, request.query, request.headers, keys=keys):
                facts = partial(_facts, known, request, ask.context)
                for resource in ask.resources:
                    self._keeper.judge.check(known, known.account, ask.action, resource, facts)
        except Forbidden as error:
            raise ObjectError("AccessDenied", error.message) from None
        except Unauthenticated:
            raise ObjectError("InvalidAccessKeyId") from None

    def uses(self, caller: Caller, request: Request) -> Uses:
        """Both the caller's policies and the key's own decide."""

        def ask(action: str, key: str) -> None:
            try:
                known = self._authority.caller(caller.access_key)
            except Unauthenticated as error:
                raise Forbidden(error.message) from None
            through = {"kms:viaservice": (f"s3.{key.split(':')[3]}.amazonaws.com",)}
            self._keeper.judge.check(known, known.account, action, key, partial(_facts, known, request, through))

        return ask


def _facts(caller: Known, request: Request, context: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    headers = request.headers
    return {
        **conditions.of_principal(caller, tags=caller.tags),
        **conditions.of_request(
            source_ip=headers.get("x-forwarded-for", ""), secure=headers.get("x-forwarded-proto") == "https", region="",
            user_agent=headers.get("user-agent", ""), referer=headers.get("referer", ""),
        ),
        **context,
    }  # fmt: skip
