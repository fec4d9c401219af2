"""The response cache, as a container's environment asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from server.control.environment import CACHE
from server.errors import BadRequest
from server.spec import Cache

VARIABLES: Mapping[str, str] = {f"{CACHE}_{field.upper()}": field for field in Cache.model_fields}


def asked(environs: Sequence[Mapping[str, str]]) -> Cache | None:
    """Of a variant's containers; they share one cache, and those that speak of it must agree. None: none is wanted.
    Raises BadRequest that names the variable."""
    found = {name: value for environ in environs for name, value in environ.items() if name.startswith(CACHE)}
    for name, value in found.items():
        if name != CACHE and name not in VARIABLES:
            raise BadRequest(f"{name} is unknown; known are {', '.join((CACHE, *VARIABLES))}")
        if others := {environ[name] for environ in environs if name in environ} - {value}:
            raise BadRequest(f"{name}: containers of one variant share a cache, and ask for {value} and {min(others)}")
    switch = found.pop(CACHE, None)
    if switch is None and found:
        raise BadRequest(f"{', '.join(found)}: the cache is off; {CACHE}=true turns it on")
    if switch is None or switch.lower() in ("false", "0"):
        return None
    if switch.lower() not in ("true", "1"):
        raise BadRequest(f"{CACHE} must be true or false, not {switch[:100]!r}")
    try:
        return Cache.model_validate({VARIABLES[name]: value for name, value in found.items()})
    except ValidationError as error:
        problem = error.errors()[0]
        raise BadRequest(f"{CACHE}_{str(problem['loc'][0]).upper()}: {problem['msg']}") from None
