"""One change at a time to a signed request: what an attacker on the wire, or a client that guesses, could send."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from botocore.credentials import Credentials

from server.identity.canonical import Sent
from tests.identity.signing import KEYS, SESSION, header, signed, with_header

MUTABLE = {b"content-type": b"application/json", b"x-amz-target": b"SageMaker.DescribeModel", b"x-list": b"a,b,c"}


@dataclass(frozen=True)
class Original:
    """A request as signed, in the header or presigned; a changed one has something else in `sent` or `body`."""

    sent: Sent
    body: bytes
    presigned: bool

    @property
    def text(self) -> str:
        """What says the signature."""
        return (self.sent.query if self.presigned else header(self.sent, b"authorization")).decode()

    @property
    def slash(self) -> str:
        return "%2F" if self.presigned else "/"

    @property
    def credential(self) -> list[str]:
        """Access key, day, region and service."""
        return self.text.partition("Credential=")[2].split(self.slash)[:4]

    def saying(self, text: str) -> Original:
        if self.presigned:
            return replace(self, sent=replace(self.sent, query=text.encode()))
        return self.having(b"authorization", text.encode())

    def having(self, name: bytes, value: bytes | None) -> Original:
        return replace(self, sent=with_header(self.sent, name, value))

    def scoped(self, place: int, value: str) -> Original:
        """With another element of the credential."""
        old = self.slash.join(self.credential)
        new = self.slash.join([*self.credential[:place], value, *self.credential[place + 1 :]])
        return self.saying(self.text.replace(old, new))


def original(keys: Credentials, service: str, expires: int | None) -> Original:
    fields = {name.decode(): value.decode() for name, value in MUTABLE.items()}
    body = b'{"inputs": "hello"}' if expires is None else b""
    url = "https://hearth.example:8443/a/b%20c?one=1&two=x%2By"
    return Original(signed("POST", url, body, fields, keys=keys, service=service, expires=expires), body,
                    expires is not None)  # fmt: skip


def _method(was: Original, seed: int) -> Original:
    return replace(was, sent=replace(was.sent, method=["GET", "PUT", "DELETE", "post"][seed % 4]))


def _path(was: Original, seed: int) -> Original:
    paths = [b"/a/b%20d", b"/a/b%20c/", b"/a%2Fb%20c", b"/A/b%20c", b"/a//b%2520c", b"/a/x/../b%20c", b"/a/b+c"]
    return replace(was, sent=replace(was.sent, path=paths[seed % len(paths)]))


def _query(was: Original, seed: int) -> Original:
    raw = was.sent.query
    queries = [raw.replace(b"one=1", b"one=2"), raw + b"&three=3", raw.replace(b"one=1&", b""), raw + b"&one=1",
               raw.replace(b"%2B", b"+"), raw.replace(b"one", b"One"), b"one&" + raw]  # fmt: skip
    return replace(was, sent=replace(was.sent, query=queries[seed % len(queries)]))


def _value(was: Original, seed: int) -> Original:
    name = list(MUTABLE)[seed % 3]
    return was.having(name, MUTABLE[name] + [b"x", b"; y", b",", b"\xe9"][seed % 4])


def _order(was: Original, seed: int) -> Original:
    return was.having(b"x-list", [b"a,c,b", b"c,b,a", b"b,a,c", b"a,b,c,"][seed % 4])


def _body(was: Original, seed: int) -> Original:
    bodies = [was.body + b" ", was.body + b"\0", b"{}", b'{"inputs": "hellO"}']
    return replace(was, body=bodies[seed % 4])


def _date(was: Original, seed: int) -> Original:
    """Another second of the same day."""
    text = was.text
    date = text.partition("X-Amz-Date=")[2][:16] if was.presigned else header(was.sent, b"x-amz-date").decode()
    other = f"{date[:13]}{(int(date[13:15]) + 1 + seed % 58) % 60:02}Z"
    return was.saying(text.replace(date, other)) if was.presigned else was.having(b"x-amz-date", other.encode())


def _day(was: Original, seed: int) -> Original:
    return was.scoped(1, f"{int(was.credential[1]) + 1 + seed}")


def _region(was: Original, seed: int) -> Original:
    return was.scoped(2, ["eu-west-1", "us-east-2", "us-east-11", "x"][seed % 4])


def _service(was: Original, seed: int) -> Original:
    return was.scoped(3, ["sts", "iam", "kms", "sagemake"][seed % 4])


def _access_key(was: Original, seed: int) -> Original:
    other = SESSION.access_key if was.credential[0] == KEYS.access_key else KEYS.access_key
    return was.scoped(0, [other, "AKIANOBODY"][seed % 2])


def _signature(was: Original, seed: int) -> Original:
    """One bit."""
    head, mark, digits = was.text.partition("Signature=")
    place = seed * 2 % 64
    digit = f"{int(digits[place], 16) ^ (1 << seed % 4):x}"
    return was.saying(head + mark + digits[:place] + digit + digits[place + 1 :])


def _names(was: Original, seed: int) -> Original:
    """One name less in SignedHeaders, or two in another order."""
    mark = "%3B" if was.presigned else ";"
    changes = [(f"content-type{mark}", ""), (f"{mark}x-list", ""), (f"{mark}x-amz-target", ""),
               (f"content-type{mark}host", f"host{mark}content-type")]  # fmt: skip
    return was.saying(was.text.replace(*changes[seed % 4], 1))


def _token(was: Original, seed: int) -> Original:
    other = ["other", "", "x" * 400][seed % 3]
    if was.presigned and "X-Amz-Security-Token" in was.text:
        head, _, rest = was.text.partition("&X-Amz-Security-Token=")
        return was.saying(f"{head}&X-Amz-Security-Token={other}&{rest.partition('&')[2]}")
    return was.having(b"x-amz-security-token", other.encode() or b"y")


def _host(was: Original, seed: int) -> Original:
    return was.having(b"host", [b"hearth.example", b"evil.example", b"hearth.example:8444"][seed % 3])


def _dropped(was: Original, seed: int) -> Original:
    return was.having([*MUTABLE, b"host"][seed % 4], None)


def _added(was: Original, seed: int) -> Original:
    more = [(b"x-amz-meta-new", b"1"), (b"x-list", b"d"), (b"x-amz-target", b"SageMaker.DeleteModel"),
            (b"host", b"evil.example")][seed % 4]  # fmt: skip
    return replace(was, sent=replace(was.sent, headers=(*was.sent.headers, more)))


def _unsigned(was: Original, _: int) -> Original:
    if was.presigned:
        return was.saying(was.text.partition("&X-Amz-Signature")[0])
    return was.having(b"authorization", None)


CHANGES: Mapping[str, Callable[[Original, int], Original]] = {
    "method": _method, "path": _path, "query": _query, "header value": _value, "value order": _order, "body": _body,
    "date": _date, "scope day": _day, "scope region": _region, "scope service": _service, "access key": _access_key,
    "signature bit": _signature, "signed headers": _names, "token": _token, "host": _host, "header dropped": _dropped,
    "header added": _added, "signature dropped": _unsigned,
}  # fmt: skip
"""By name; the number picks a variant."""
