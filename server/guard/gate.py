"""Who sends a request to this replica, and may they? Decided from memory: the controller's snapshot of identities."""

from __future__ import annotations

from functools import partial

from starlette.types import Scope

from server.dialects.errors import endpoint_not_found
from server.dialects.identity import Identity
from server.dialects.paths import Kind, Route
from server.errors import Unavailable
from server.identity.authority import Authority, Claim
from server.identity.bearer import ACTION as CALL_WITH_BEARER
from server.identity.caller import Caller
from server.identity.canonical import Sent
from server.identity.judge import Judge
from server.identity.policy import context as conditions

SERVICES = ("sagemaker",)
"""What requests have to be signed for."""

_ACTIONS = {
    Kind.RUNTIME: "sagemaker:InvokeEndpoint",
    Kind.CONTAINER: "sagemaker:InvokeEndpoint",
    Kind.OPENAI: "sagemaker:InvokeEndpoint",
    Kind.STREAM: "sagemaker:InvokeEndpointWithResponseStream",
}
_TARGET_MODEL = b"x-amzn-sagemaker-target-model"


class Gate:
    def __init__(
        self, authority: Authority, judge: Judge, identity: Identity, *, required: bool | None = None
    ) -> None:
        """`required`: whether anyone is asked; None until the controller has said so, when nobody comes through."""
        self.authority = authority
        self.judge = judge
        self.identity = identity
        self.required = required

    def claim(self, scope: Scope) -> Claim | None:
        """What can be known before the body is here; None where nobody is asked. Raises Unauthenticated, and
        Unavailable while this replica does not know whom to let in."""
        if self.required is False:
            return None
        if self.required is None or not self.authority.ready:
            raise Unavailable("This replica has not heard yet who may call it. Try again.")
        return self.authority.claim(Sent.of(scope), services=SERVICES)

    def admit(self, claim: Claim, route: Route, scope: Scope, body: bytes) -> Caller:
        """Raises Unauthenticated, or Forbidden; for a caller of another account what is said of an endpoint that its
        account does not have."""
        caller, identity = self.authority.prove(claim, body), self.identity
        if action := _ACTIONS.get(route.kind):
            resource = f"arn:aws:sagemaker:{identity.region}:{caller.account}:endpoint/{identity.endpoint.lower()}"
            facts = partial(self._facts, caller, scope)
            for needed in (CALL_WITH_BEARER_TOKEN, action) if caller.bearer else (action,):
                self.judge.check(caller, caller.account, needed, resource, facts)
        if caller.account != identity.account:
            raise endpoint_not_found(route.endpoint or identity.endpoint, caller.account)
        return caller

    def _facts(self, caller: Caller, scope: Scope) -> dict[str, tuple[str, ...]]:
        headers = dict(scope["headers"])
        said = {name: headers.get(name, b"").decode("latin-1") for name in (b"x-forwarded-for", b"user-agent")}
        return {
            **conditions.of_principal(caller, tags=caller.tags),
            **conditions.of_request(
                source_ip=said[b"x-forwarded-for"], secure=headers.get(b"x-forwarded-proto") == b"https",
                region=self.identity.region, user_agent=said[b"user-agent"],
            ),
            **conditions.of_resource(caller.account, {}, "sagemaker"),
            **conditions.of_invocation(target_model=headers.get(_TARGET_MODEL, b"").decode("latin-1")),
        }  # fmt: skip


CALL_WITH_BEARER_TOKEN = f"sagemaker:{CALL_WITH_BEARER}"
