"""What an invocation says in its headers, and what the answer's headers say back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import Scope

from server.dialects import components, target_model
from server.dialects.engine import Invocation
from server.dialects.identity import Identity
from server.dialects.service_model import HEADER_RULES, INVOKE, header_name
from server.dialects.target_model import TARGET_MODEL
from server.errors import BadRequest

TARGET_CONTAINER = header_name(INVOKE, "TargetContainerHostname", output=False).lower()
_CUSTOM = header_name(INVOKE, "CustomAttributes").lower().encode()
_VARIANT = header_name(INVOKE, "InvokedProductionVariant").lower().encode()
COMPONENT = header_name(INVOKE, "InferenceComponentName", output=False).lower().encode()
TARGET_VARIANT = header_name(INVOKE, "TargetVariant", output=False).lower().encode()
SESSION = header_name(INVOKE, "SessionId", output=False).lower().encode()
_ACCEPTS = (b"x-amzn-sagemaker-accept", b"accept")
_SHOWN = (b"content-type", b"accept", b"x-amzn-sagemaker-", b"x-request-id")
"""Headers, or their beginnings, that a model's own code may see."""
REQUEST_ID = b"x-request-id"
AMZN_REQUEST_ID = b"x-amzn-requestid"


@dataclass(frozen=True, slots=True)
class Call:
    """Headers of one invocation, names in lower case. `content_type` and `accept` are lower case and the
    first is without its parameters."""

    headers: dict[bytes, bytes]
    content_type: str
    accept: str
    request_id: str

    def invocation(self, body: bytes, *, streams: bool) -> Invocation:
        """The request as a `PayloadEngine` takes it."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in self.headers.items()
            if name.startswith(_SHOWN)
        }
        accept = next((self.headers[name] for name in _ACCEPTS if name in self.headers), b"")
        return Invocation(
            body, headers.get("content-type", ""), accept.decode("latin-1"), headers, self.request_id, streams
        )

    @classmethod
    def of(cls, scope: Scope) -> Call:
        headers = dict(scope["headers"])
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        accept = next((headers[name] for name in _ACCEPTS if name in headers), b"").decode("latin-1")
        return cls(
            headers,
            content_type.partition(";")[0].strip().lower(),
            accept.lower(),
            headers.get(REQUEST_ID, b"-").decode("latin-1"),
        )

    def accepts(self, media_type: str) -> bool:
        return any(each.partition(";")[0].strip() == media_type for each in self.accept.split(","))

    def check_headers(self, identity: Identity) -> None:
        """Raises BadRequest for a header that the service model does not allow, or that asks for another
        variant."""
        for name, value in self.headers.items():
            if rule := HEADER_RULES.get(name):
                rule.check(value.decode("latin-1"))
        target = self.headers.get(TARGET_VARIANT)
        if target is not None and target.decode("latin-1") != identity.variant:
            raise BadRequest(f"variant {target.decode('latin-1')} was not found here", field="TargetVariant")
        if self.headers.get(SESSION) == b"NEW_SESSION":
            raise BadRequest("this endpoint keeps no sessions; any other SessionId works", field="SessionId")

    def model(self, identity: Identity, named: object = None, head: str | None = None) -> str:
        """Whom the request is for: the model, or one of its adapters. `named`: as which model its body names it;
        `head`: as which component its address does, which goes before the header.

        Raises BadRequest for a request that names none of them where it must, or that names two; NotReady for an
        adapter that is not loaded here yet.
        """
        return components.chosen(identity, head or self.headers.get(COMPONENT, b"").decode("latin-1"), named)

    def check_component(self, identity: Identity) -> None:
        """Raises what is wrong with an invocation's InferenceComponentName."""
        named = self.headers.get(COMPONENT)
        if named is not None or identity.component:
            self.model(identity)

    def check_target(self, targets: Sequence[str], endpoint: str) -> None:
        """Raises BadRequest where no container of `targets` is named and one must be, or one that is not there."""
        given = self.headers.get(TARGET_CONTAINER.encode())
        if given is None and not targets:
            return
        known = ", ".join(targets)
        if given is None:
            problem = f"is invoked directly; name the container to invoke, one of {known}, in"
        elif not targets:
            problem = "is not a multi-container endpoint with direct invocation and does not support"
        elif given.decode("latin-1") not in targets:
            problem = f"has the containers {known} and none called {given.decode('latin-1')}; correct"
        else:
            return
        raise BadRequest(f"Endpoint {endpoint} {problem} TargetContainerHostname.", field="TargetContainerHostname")

    def check_target_model(self, many: Sequence[str], targets: Sequence[str], endpoint: str) -> None:
        """Raises BadRequest where no model is named and one must be, or one that cannot be. `many` of the containers
        hold many models; `targets` as for `check_target`."""
        given = self.headers.get(TARGET_MODEL.encode())
        chosen = self.headers.get(TARGET_CONTAINER.encode(), b"").decode("latin-1")
        holds_many = chosen in many if targets else bool(many)
        target_model.check(None if given is None else given.decode("latin-1"), holds_many, endpoint, self.request_id)

    def answer_headers(self, identity: Identity) -> list[tuple[bytes, bytes]]:
        answer = [(_VARIANT, identity.variant.encode()), (AMZN_REQUEST_ID, self.request_id.encode("latin-1"))]
        if custom := self.headers.get(_CUSTOM):
            answer.append((_CUSTOM, custom))
        return answer
