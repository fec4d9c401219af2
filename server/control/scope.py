"""Which region and service a request was signed for (Signature Version 4's credential scope)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_CREDENTIAL = re.compile(r"(?P<key>[^/\s,]+)/[0-9]{8}/(?P<region>[a-z0-9-]{1,32})/(?P<service>[a-z0-9-]+)/aws4_request")
_NAMED = "Credential="


@dataclass(frozen=True, slots=True)
class Scope:
    region: str
    service: str
    access_key: str = ""


def scope(headers: Mapping[str, str], query: Mapping[str, str]) -> Scope | None:
    """None for a request that is not signed that way. Header names in lower case."""
    authorization = headers.get("authorization", "")
    if authorization.startswith("AWS4-"):
        given = authorization.partition(_NAMED)[2].partition(",")[0].strip()
    else:
        given = query.get("X-Amz-Credential", "")
    found = _CREDENTIAL.fullmatch(given)  # from one place only: a search takes quadratic time in a long header
    return Scope(found["region"], found["service"], found["key"]) if found else None
