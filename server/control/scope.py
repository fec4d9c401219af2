"""Which region and service a request was signed for (Signature Version 4's credential scope)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_CREDENTIAL = re.compile(r"(?P<key>[^/\s,=]+)/\d{8}/(?P<region>[a-z0-9-]{1,32})/(?P<service>[a-z0-9-]+)/aws4_request")


@dataclass(frozen=True, slots=True)
class Scope:
    region: str
    service: str
    access_key: str = ""


def scope(headers: Mapping[str, str], query: Mapping[str, str]) -> Scope | None:
    """None for a request that is not signed that way. Header names in lower case."""
    authorization = headers.get("authorization", "")
    given = authorization if authorization.startswith("AWS4-") else query.get("X-Amz-Credential", "")
    found = _CREDENTIAL.search(given)
    return Scope(found["region"], found["service"], found["key"]) if found else None
