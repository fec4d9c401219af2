"""Images, audio and video inside OpenAI bodies: what they are, and that nothing is fetched unasked."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from server.dialects.images import check_image, decode_text
from server.errors import BadRequest
from server.spec import Limits

URLS = ("image_url", "audio_url", "video_url", "file_url")
"""Keys whose value is a URL, or an object with one under `url`."""

REFUSED_PARTS = ("image_embeds", "audio_embeds", "video_embeds", "prompt_embeds", "image_pil", "file_id")
"""Keys of content parts that hand the engine pickled tensors, or name files it does not have."""

TOGETHER = 2
"""All images of one request may have this many times the pixels of the largest allowed one."""

_STRANGE = re.compile(r"[\s\\@\x00-\x1f]")
"""In a URL's host part these make parsers disagree about the host."""


def check_media(value: Any, field: str, limits: Limits) -> None:
    """Walks messages or inputs; raises BadRequest for media that may not be sent."""
    pixels = 0
    stack = [value]
    while stack:
        each = stack.pop()
        if type(each) is list:
            stack += [inner for inner in each if type(inner) in (dict, list)]
        elif type(each) is dict:
            pixels += _check_part(each, field, limits)
            stack += [inner for inner in each.values() if type(inner) in (dict, list)]
    if pixels > TOGETHER * limits.max_image_pixels:
        raise BadRequest(f"{field} has images of {pixels} pixels together", field=field)


def _check_part(part: dict[str, Any], field: str, limits: Limits) -> int:
    """Pixels of the images in one content part, apart from what is nested in it."""
    pixels = 0
    for key in part.keys() & {*URLS, *REFUSED_PARTS}:
        if key in REFUSED_PARTS:
            raise BadRequest(f"{field}: content parts with {key} are not accepted", field=field)
        value = part[key]
        url = value.get("url") if isinstance(value, dict) else value
        if isinstance(url, str):
            pixels += _check_url(url, key, field, limits)
    source = part.get("source")
    if isinstance(source, dict):
        pixels += _check_source(source, field, limits)
    return pixels


def _check_url(url: str, key: str, field: str, limits: Limits) -> int:
    if url[:5].lower() != "data:":
        _check_host(url, field, limits)
        return 0
    if key != "image_url":
        return 0
    return check_image(decode_text(url, field), limits.max_image_pixels, field)


def _check_source(source: dict[str, Any], field: str, limits: Limits) -> int:
    """Anthropic's form: ``{"type": "base64", "data": ...}`` or ``{"type": "url", "url": ...}``."""
    if isinstance(url := source.get("url"), str):
        return _check_url(url, "image_url", field, limits)
    if isinstance(data := source.get("data"), str):
        return check_image(decode_text(data, field), limits.max_image_pixels, field)
    return 0


def _check_host(url: str, field: str, limits: Limits) -> None:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
    except ValueError:
        raise BadRequest(f"{field} has a URL that cannot be read", field=field) from None
    if parts.scheme in ("http", "https") and host in limits.allowed_media_hosts and not _STRANGE.search(url):
        return
    allowed = ", ".join(limits.allowed_media_hosts)
    hosts = f", or URLs of {allowed}" if allowed else ""
    raise BadRequest(f"{field} has a URL that is not fetched; send data: URLs{hosts}", field=field)
