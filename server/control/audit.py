"""Every call of an AWS service as an event of the audit log: what the dispatcher's `observe` does."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Any

from server.audit.event import Call, record
from server.audit.log import AuditLog
from server.audit.redaction import message_without, redact
from server.audit.touched import touched
from server.control import dispatch
from server.control.failures import code_of
from server.errors import BadRequest, UnknownOperation

_READS = re.compile(
    r"(Get|List|Describe|Search|Lookup|Query|BatchGet|BatchDescribe|Filter|Test|Simulate|Head|Select|Estimate|Validate)"
    r"[A-Z]"
)
_ALSO_READS: Mapping[str, frozenset[str]] = {
    "kms": frozenset({"Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext",
                      "GenerateRandom", "GenerateMac", "VerifyMac", "Sign", "Verify"}),
    "sts": frozenset({"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "DecodeAuthorizationMessage"}),
}  # fmt: skip
"""Operations that CloudTrail marks as read-only for all their names say."""
_GRANTS = frozenset({"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "GetSessionToken",
                     "GetFederationToken"})  # fmt: skip
"""Calls that give credentials: kept like changes."""
_DATA: Mapping[str, frozenset[str]] = {
    "logs": frozenset({"PutLogEvents", "GetLogEvents", "FilterLogEvents"}),
    "monitoring": frozenset({"PutMetricData", "GetMetricData", "GetMetricStatistics", "GetMetricWidgetImage"}),
}
"""What CloudTrail counts as data events: sampled."""
_STRANGERS = frozenset({
    "SignatureDoesNotMatch", "InvalidSignatureException", "InvalidClientTokenId", "UnrecognizedClientException",
    "IncompleteSignature", "IncompleteSignatureException", "MissingAuthenticationToken",
    "MissingAuthenticationTokenException", "ExpiredToken", "ExpiredTokenException", "RequestExpired",
})  # fmt: skip
"""Refusals of callers whose identity was never proved."""


def reads(signing_name: str, operation: str) -> bool:
    """Whether a call changes nothing, as CloudTrail's readOnly has it."""
    return bool(_READS.match(operation)) or operation in _ALSO_READS.get(signing_name, ())


class ControlAudit:
    """`observe` for the dispatcher. A call that changed something is on disk before its answer goes out."""

    def __init__(self, log: AuditLog, data_share: float, draw: Callable[[], float] = random.random) -> None:
        self._log = log
        self._data_share = data_share
        self._draw = draw

    def observe(self, call: dispatch.Call) -> None:
        """Raises Unavailable when the event of an answered change cannot be kept."""
        signing, name = call.service.signing_name, call.operation
        data = name in _DATA.get(signing, ())
        if data and self._draw() >= self._data_share:
            return
        event = record(_event(call, data=data))
        lasting = call.error is None and not data and (not reads(signing, name) or name in _GRANTS)
        if lasting:
            self._log.commit(event)
        else:
            self._log.record(event)


def _event(call: dispatch.Call, *, data: bool) -> Call:
    context, service, name = call.context, call.service, call.operation
    known = name in service.operations
    request, answer = call.request, call.result or {}
    parameters = redact(request, service.input(name)) if known and request else None
    shown = known and (not reads(service.signing_name, name) or name in _GRANTS)
    elements = redact(answer, service.output(name)) if shown and answer else None
    code = None if call.error is None else code_of(call.error, service, name)
    return Call(
        source=f"{service.signing_name}.amazonaws.com",
        name=name if known else re.sub(r"[^A-Za-z0-9]", "", name)[:64] or "Unknown",
        account=context.account,
        region=context.region,
        read_only=reads(service.signing_name, name),
        caller=None if context.caller is None and code in _STRANGERS else context.principal,
        access_key=context.client.access_key,
        address=context.client.address,
        user_agent=context.client.user_agent,
        request_id=context.request_id,
        parameters=parameters,
        answer=elements,
        error_code=code,
        error_message=_message(call, parameters),
        resources=touched(service.signing_name, name, context.account, context.region, request, answer),
        category="Data" if data else "Management",
    )


def _message(call: dispatch.Call, kept: Any) -> str | None:
    """The error's message without what the log does not keep. One about a request that was never read is not
    repeated: it may hold any part of it."""
    error = call.error
    if error is None:
        return None
    if isinstance(error, UnknownOperation) or not isinstance(error, BadRequest) or call.request:
        return message_without(error.message, call.request, kept)
    where = f" at '{error.field}'" if error.field else ""
    return f"The request could not be read, or breaks a constraint{where}."
