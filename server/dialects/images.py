"""Images in requests: what counts as one, and its bounds, before anything decodes a pixel."""

from __future__ import annotations

import base64
import binascii
import io
import re

from PIL import Image, UnidentifiedImageError

from server.errors import BadRequest

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
"""Pillow's names of the formats that are opened; its other decoders are never reached."""

_DATA_URL = re.compile(r"data:(?P<type>[a-z]+/[a-z0-9.+-]+)?(?:;[a-z-]+=[^;,]*)*;base64,", re.IGNORECASE)

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, ArithmeticError)
"""What Pillow's decoders raise for broken files."""


def check_image(data: bytes, max_pixels: int, field: str | None = None) -> int:
    """Its number of pixels; reads the header only. Raises BadRequest for what is no image of `FORMATS`, is
    cut short as far as its framing tells, or has more than `max_pixels` pixels."""
    with _opened(data, max_pixels, field) as image:
        complete, pixels = _complete(data, image.format), image.width * image.height
    if not complete:
        raise BadRequest("the image is cut short", field=field)
    return pixels


def open_image(data: bytes, max_pixels: int, field: str | None = None) -> Image.Image:
    """The image, decoded. Raises BadRequest as `check_image` does, and for data that does not decode."""
    image = _opened(data, max_pixels, field)
    try:
        image.load()
    except _BROKEN as error:
        raise BadRequest(f"the image cannot be decoded: {error}", field=field) from None
    return image


def decode_text(text: str, field: str) -> bytes:
    """Bytes of an image that is written as base64 or as a `data:` URL."""
    if text[:5].lower() == "data:":
        match = _DATA_URL.match(text[:512])
        if match is None:
            raise BadRequest("a data: URL must be base64-encoded: data:image/png;base64,...", field=field)
        text = text[match.end() :]
    elif text[:8].lower().startswith(("http://", "https://", "file:", "ftp:", "s3:")):
        raise BadRequest("URLs are not fetched; send the image's bytes as base64 or a data: URL", field=field)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("the image is neither base64 nor a data: URL", field=field) from None


def _opened(data: bytes, max_pixels: int, field: str | None) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadRequest(f"the data is no image of a known format ({', '.join(FORMATS)})", field=field) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadRequest(f"the image has more than {max_pixels} pixels", field=field) from None
    except _BROKEN as error:
        raise BadRequest(f"the image cannot be read: {error}", field=field) from None
    if image.width * image.height > max_pixels:
        size = f"{image.width} x {image.height}"
        raise BadRequest(f"the image is {size} pixels; at most {max_pixels} are allowed", field=field)
    return image


def _complete(data: bytes, form: str | None) -> bool:
    """Whether the file's own framing says that all of it is there."""
    if form == "JPEG":
        return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda") > 0
    if form == "PNG":
        return data.rfind(b"IEND") > 0
    if form == "GIF":
        return data.rstrip(b"\0").endswith(b";")
    if form == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 <= len(data)
    return int.from_bytes(data[2:6], "little") <= len(data)
