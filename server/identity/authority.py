"""Who calls, decided from the newest snapshot that this process was given. Answers from memory alone."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote

from server.errors import Unauthenticated
from server.identity import bearer
from server.identity.bearer import Bearer
from server.identity.caller import Caller
from server.identity.canonical import Sent
from server.identity.credential import Credential
from server.identity.directory import Used
from server.identity.keys import digest
from server.identity.policy.document import Use
from server.identity.policy.policy import Policy, compile_policy
from server.identity.refusals import Reason, SignatureRefused
from server.identity.sessions import Session, Sessions
from server.identity.signed import Signed
from server.identity.sigv4 import Verifier
from server.identity.snapshot import ApiKey, Holder, Snapshot

MOST_SESSIONS = 4096
"""Opened session tokens that are remembered."""

_TOKEN = re.compile(r"[?&]X-Amz-Security-Token=([^&]*)")
_BEARER = b"Bearer "


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a request's head says it is from; `Authority.prove` needs its body too where it is signed."""

    sent: Sent
    caller: Caller | None = None
    signed: Signed | None = None
    account: str = ""
    """Of the credentials."""


class Authority:
    """One for a process. `load` may be called from any thread: what is under way sees the old snapshot or the new."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.verifier = Verifier(self.lookup, now=now)
        self._used: dict[str, tuple[float, str, str]] = {}
        self._now = now
        self._known = _Known(-1, {}, {}, {}, {}, None)
        self._opened: dict[str, tuple[Session, Credential, str]] = {}
        """Sessions by access key, with their tokens; `_tokens` the other way round."""
        self._tokens: dict[str, str] = {}
        self._bearers: dict[str, Bearer] = {}
        self._compiled: dict[tuple[str, str], Policy] = {}

    @property
    def version(self) -> int:
        """Of the snapshot; below 0 before the first."""
        return self._known.version

    @property
    def ready(self) -> bool:
        return self.version >= 0

    def load(self, snapshot: Snapshot) -> None:
        """Raises MalformedPolicy for a policy that cannot be decided by; then all stays as it was."""
        compiled = {pair: self._compiled.get(pair) or _compile(*pair) for pair in snapshot.documents}
        places = [compiled[pair] for pair in snapshot.documents]
        holders = {holder.id: _Held(snapshot.version, holder, places) for holder in snapshot.holders}
        keys = {
            key.id: Credential(key.id, key.secret, holders[key.owner].holder.account, holders[key.owner].holder.arn)
            for key in snapshot.access_keys
            if key.owner in holders
        }
        self._compiled = compiled
        self._known = _Known(
            snapshot.version, holders, keys, {key.id: key.owner for key in snapshot.access_keys},
            {key.hash: key for key in snapshot.api_keys}, Sessions(bytes.fromhex(snapshot.session_key)),
        )  # fmt: skip

    def lookup(self, access_key: str) -> Credential | None:
        """For `Verifier`: a long-term key, or one whose token `claim` or `open` has read."""
        known = self._known.keys.get(access_key)
        if known is None and (opened := self._opened.get(access_key)) is not None:
            return opened[1]
        return known

    def account_of(self, access_key: str) -> str | None:
        """Whose a key is that this process knows, proven or not; None for any other."""
        known = self.lookup(access_key)
        return None if known is None else known.account

    def claim(self, sent: Sent, *, services: Collection[str] = ()) -> Claim:
        """Raises Unauthenticated: no credentials, unknown ones, or ones that cannot be right."""
        given = next((value for name, value in sent.headers if name == b"authorization"), b"")
        if given[:7].lower() == _BEARER.lower():
            caller = self._bearer(given[7:].strip().decode("latin-1"))
            return Claim(sent, caller, account=caller.account)
        signed = self.verifier.read(sent, services=services)
        self.open(signed.token)
        if (account := self.account_of(signed.access_key)) is None:
            raise unknown_key(signed.access_key)
        return Claim(sent, signed=signed, account=account)

    def prove(self, claim: Claim, body: bytes) -> Caller:
        """Raises Unauthenticated."""
        if claim.caller is not None:
            return claim.caller
        assert claim.signed is not None
        signed = claim.signed
        self.verifier.prove(claim.sent, signed, hashlib.sha256(body).hexdigest())
        self.note(signed.access_key, signed.service, signed.region)
        return self.caller(signed.access_key)

    def caller(self, access_key: str) -> Caller:
        """Who holds a key that was proven. Raises Unauthenticated when it was taken away since."""
        known = self._known
        if (owner := known.owners.get(access_key)) is not None and (held := known.holders.get(owner)) is not None:
            return held.caller(access_key)
        opened = self._opened.get(access_key)
        if opened is None or (held := known.holders.get(opened[0].holder)) is None:
            raise unknown_key(access_key)
        return held.session(opened[0])

    def open(self, token: str | None) -> None:
        """Reads a session token, if it is one of ours, so that `lookup` knows its key."""
        known = self._known
        if token is None or known.sessions is None or token in self._tokens:
            return
        session = known.sessions.read(token)
        if session is None or session.holder not in known.holders:
            return
        hashed = hashlib.sha256(token.encode()).hexdigest()
        credential = Credential(
            session.access_key, session.secret, session.account, session.arn, hashed, session.expires_at
        )
        while len(self._opened) >= MOST_SESSIONS:
            oldest = next(iter(self._opened))
            self._tokens.pop(self._opened.pop(oldest)[2], None)
        self._opened[session.access_key] = session, credential, token
        self._tokens[token] = session.access_key

    def note(self, access_key: str, service: str, region: str) -> None:
        if access_key in self._known.keys:
            self._used[access_key] = self._now(), service, region

    def take_used(self) -> Used:
        """What was used since it was last asked."""
        taken, self._used = self._used, {}
        return taken

    def _bearer(self, token: str) -> Caller:
        if bearer.is_bearer(token):
            proven = self._proven(token)
            access_key = proven.credential.access_key
            self.note(access_key, "sagemaker", proven.region)
            return replace(self.caller(access_key), bearer=True)
        known = self._known
        key = known.api_keys.get(digest(token))
        if key is None or (key.expires is not None and self._now() >= key.expires) or key.owner not in known.holders:
            raise Unauthenticated("The API key is not valid: it is unknown, was revoked, or has expired.")
        return known.holders[key.owner].caller(key.id)


    def _proven(self, token: str) -> Bearer:
        """SageMaker's bearer token comes with every call for hours: what one proved holds while its key is the same."""
        found = self._bearers.get(token)
        if found is not None and self._holds(found):
            return found
        self.open(_token_within(token))
        found = bearer.verify(token, self.verifier)
        if len(self._bearers) >= MOST_SESSIONS:
            self._bearers.clear()
        self._bearers[token] = found
        return found


    def _holds(self, proven: Bearer) -> bool:
        credential = proven.credential
        ends = min(proven.expires_at, credential.expires_at or proven.expires_at)
        return self._now() < ends and self.lookup(credential.access_key) == credential


class _Held:
    """A holder and its policies, compiled."""

    def __init__(self, version: int, holder: Holder, places: list[Policy]) -> None:
        self.version = version
        self.holder = holder
        self._policies = tuple(places[number] for number in holder.policies)
        self._boundary = None if holder.boundary is None else places[holder.boundary]
        self._callers: dict[str, Caller] = {}

    def caller(self, access_key: str) -> Caller:
        """`access_key` is one that the snapshot has, or the id of an API key."""
        if (made := self._callers.get(access_key)) is not None:
            return made
        holder = self.holder
        made = self._callers[access_key] = Caller(
            holder.account, holder.arn, holder.id, access_key, holder=holder.id, name=holder.name,
            policies=self._policies, boundary=self._boundary, tags=holder.tags, version=self.version,
        )  # fmt: skip
        return made

    def session(self, session: Session) -> Caller:
        """Of a role, or of a user or root that asked for a session token."""
        if (made := self._callers.get(session.access_key)) is not None:
            return made
        if len(self._callers) >= MOST_SESSIONS:
            self._callers.clear()
        bounds = session.policies
        made = self._callers[session.access_key] = Caller(
            session.account, session.arn, session.id, session.access_key, True, holder=self.holder.id,
            name="" if ":" in session.id else self.holder.name, policies=self._policies, boundary=self._boundary,
            session_policies=None if bounds is None else tuple(_compile("session", text) for text in bounds),
            tags={**self.holder.tags, **session.tags}, issued_at=session.issued_at, version=self.version,
        )  # fmt: skip
        return made


@dataclass(frozen=True, slots=True)
class _Known:
    """A snapshot, ready to decide by: holders by id, access keys by id and their owners, API keys by their hash."""

    version: int
    holders: Mapping[str, _Held]
    keys: Mapping[str, Credential]
    owners: Mapping[str, str]
    api_keys: Mapping[str, ApiKey]
    sessions: Sessions | None


def unknown_key(access_key: str) -> SignatureRefused:
    return SignatureRefused(
        Reason.UNKNOWN_KEY, "The security token included in the request is invalid.", AWSAccessKeyId=access_key
    )


def _compile(id: str, text: str) -> Policy:
    """Any policy that was once taken in, whatever it was for."""
    return compile_policy(text, id=id, use=Use.AWS)


def _token_within(token: str) -> str | None:
    """The session token inside SageMaker's bearer token."""
    try:
        address = base64.b64decode(token.removeprefix(bearer.PREFIX), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return None
    found = _TOKEN.search(address)
    return unquote(found[1]) if found else None

