import base64
import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from server.dialects.images import FORMATS, check_image, decode_text, open_image
from server.errors import BadRequest


def encoded(form: str) -> bytes:
    data = io.BytesIO()
    Image.frombytes("RGB", (40, 30), random.Random(0).randbytes(3600)).save(data, form)
    return data.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_images_of_each_format_open(form: str) -> None:
    assert check_image(encoded(form), 1200) == 1200
    assert open_image(encoded(form), 1200).size == (40, 30)
    with pytest.raises(BadRequest, match="40 x 30 pixels; at most 1199"):
        check_image(encoded(form), 1199)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_part_of_an_image_is_refused(form: str, share: float) -> None:
    data = encoded(form)
    part = data[: int(len(data) * share)]
    with pytest.raises(BadRequest):
        check_image(part, 1200)
    with pytest.raises(BadRequest):
        open_image(part, 1200)


@pytest.mark.parametrize("form", ["TIFF", "ICO", "PPM", "PDF"])
def test_other_formats_are_not_opened(form: str) -> None:
    with pytest.raises(BadRequest, match="no image of a known format"):
        check_image(encoded(form), 1200)


@given(st.sampled_from(FORMATS), st.data())
def test_broken_bytes_are_refused_or_open(form: str, draw: st.DataObject) -> None:
    data = bytearray(encoded(form))
    for position in draw.draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=8)):
        data[position] = draw.draw(st.integers(0, 255))
    try:
        pixels = open_image(bytes(data), 10_000).size
    except BadRequest:
        pixels = (0, 0)
    assert pixels[0] * pixels[1] <= 10_000


@given(st.binary(max_size=50))
def test_base64_and_data_urls_are_the_same(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert decode_text(text, "inputs") == data
    assert decode_text(f"data:image/png;base64,{text}", "inputs") == data
    assert decode_text(f"data:image/svg+xml;charset=utf-8;base64,{text}", "inputs") == data
