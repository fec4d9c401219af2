import ast
import base64
import importlib.util
import io
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from server.errors import BadRequest, NotFound
from server.guard.limits import FIELDS, UNCHECKED, check_document, check_model
from server.spec import Limits

LIMITS = Limits(max_image_pixels=10_000, max_schema_bytes=2000, allowed_media_hosts=("images.example",))


def refused(document: dict[str, Any], words: str | None = None, limits: Limits = LIMITS) -> None:
    with pytest.raises(BadRequest, match=words) as caught:
        check_document(document, limits)
    assert caught.value.field is not None


def picture(form: str = "PNG", size: tuple[int, int] = (8, 8)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, "red").save(data, form)
    return data.getvalue()


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def message(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, part]}]}


def bomb(width: int, height: int) -> bytes:
    """A PNG that is a few bytes here and `width` x `height` pixels when decoded."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    header = struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_every_field_of_vllm_is_decided() -> None:
    """Read as text: importing vLLM takes seconds."""
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        pytest.skip("vLLM is not installed")
    entrypoints = Path(found.origin).parent / "entrypoints"
    files = [*entrypoints.glob("openai/*/protocol.py"), *entrypoints.glob("pooling/*/protocol.py"),
             entrypoints / "serve/tokenize/protocol.py", entrypoints / "anthropic/protocol.py"]  # fmt: skip
    unserved = {"CohereEmbedRequest"}
    fields: set[str] = set()
    for file in files:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and ("Request" in node.name or "Mixin" in node.name):
                if node.name in unserved:
                    continue
                fields |= {
                    each.target.id
                    for each in node.body
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
                }
    decided = FIELDS.keys() | UNCHECKED
    assert len(fields) > 80
    assert {field for field in fields if not field.startswith("_")} - decided == set()


def test_an_ordinary_request_passes() -> None:
    check_document(
        {
            "model": "m", "n": 2, "max_tokens": 5, "temperature": 0.5, "stream": True, "stop": ["a"], "logprobs": True,
            "top_logprobs": 5, "seed": 1, "user": "me", "logit_bias": {"5": 1},
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": "hi"}] * 300,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        },
        LIMITS,
    )  # fmt: skip
    check_document({"input": [1] * 1000}, LIMITS)
    check_document({"prompt": ["a"] * 256}, LIMITS)


@pytest.mark.parametrize(
    "name",
    ["n", "best_of", "logprobs", "top_logprobs", "prompt_logprobs", "max_tokens", "min_tokens", "stream_interval"],
)
@pytest.mark.parametrize("value", [10**6 * 10**6, -2, "1000000", 1.5, [1], {}])
def test_counts_are_bounded_integers(name: str, value: Any) -> None:
    refused({name: value}, f"{name} must be an integer from")


@pytest.mark.parametrize("name", ["temperature", "top_p", "frequency_penalty"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400, "1", True])
def test_numbers_are_finite(name: str, value: Any) -> None:
    refused({name: value}, name)


@pytest.mark.parametrize("name", ["prompt", "input", "documents", "text_2", "queries"])
def test_batches_are_bounded(name: str) -> None:
    refused({name: ["x"] * 257}, "257 entries")
    refused({name: [[1, 2]] * 257}, "257 entries")


def test_prompts_times_choices_are_bounded() -> None:
    refused({"prompt": ["a"] * 200, "n": 2}, "400 answers")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stop", ["x"] * 17), ("stop", "x" * 257), ("bad_words", ["x"] * 257), ("stop_token_ids", [1] * 257),
        ("allowed_token_ids", [1] * 65_537), ("logit_bias", {str(i): 1 for i in range(1025)}), ("user", "x" * 5000),
        ("messages", [{"role": "user", "content": "x"}] * 4097), ("tokens", [1] * (2**20 + 1)),
    ],
)  # fmt: skip
def test_lists_are_bounded(name: str, value: Any) -> None:
    refused({name: value}, name)


@pytest.mark.parametrize(
    "name",
    ["kv_transfer_params", "ec_transfer_params", "vllm_xargs", "prompt_embeds", "chat_template", "mm_processor_kwargs",
     "media_io_kwargs", "priority", "request_id", "use_beam_search", "background", "guided_json", "guided_grammar"],
)  # fmt: skip
def test_what_belongs_to_the_engine_is_refused(name: str) -> None:
    refused({name: {"a": 1}}, f"{name} is not accepted")
    check_document({name: None}, LIMITS)


def test_templates_do_not_come_in_sideways() -> None:
    check_document({"chat_template_kwargs": {"enable_thinking": False}}, LIMITS)
    refused({"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}, "chat_template")


SCHEMAS = [
    lambda schema: {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}},
    lambda schema: {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]},
    lambda schema: {"structured_outputs": {"json": schema}},
    lambda schema: {"text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}},
]
LOOPS: list[dict[str, Any]] = [
    {"$ref": "#"},
    {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "type": "object"},
    {"$defs": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]}}, "properties": {"x": {"$ref": "#/$defs/a"}}},
    {"properties": {"x": {"allOf": [{"$ref": "#/properties/x"}]}}},
]


@pytest.mark.parametrize("place", SCHEMAS)
@pytest.mark.parametrize("schema", LOOPS)
def test_references_that_never_end_are_refused(place: Any, schema: dict[str, Any]) -> None:
    refused(place(schema), "loop that never ends")


@pytest.mark.parametrize("place", SCHEMAS)
def test_references_stay_inside(place: Any) -> None:
    refused(place({"$ref": "http://169.254.169.254/x"}), "only references within")
    refused(place({"properties": {"x": {"$ref": "#/$defs/none"}}}), "is not there")
    tree = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}}
    check_document(place(tree), LIMITS)


def test_a_schema_sent_as_text_is_read() -> None:
    refused({"structured_outputs": {"json": '{"$ref": "#"}'}}, "never ends")


def test_a_long_chain_of_references_needs_no_stack() -> None:
    chain: dict[str, Any] = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(5_000)}
    chain["d5000"] = {"type": "null"}
    wide = Limits(max_schema_bytes=10**7)
    check_document({"structured_outputs": {"json": {"$defs": chain, "$ref": "#/$defs/d0"}}}, wide)
    chain["d5000"] = {"$ref": "#/$defs/d0"}
    refused({"structured_outputs": {"json": {"$defs": chain}}}, "never ends", wide)


@pytest.mark.parametrize(
    "structure",
    [
        {"choice": ["x" * 10] * 1000},
        {"regex": "a" * 3000},
        {"grammar": "root ::= " + "a" * 3000},
        {"json": {"enum": ["y"] * 2000}},
    ],
)
def test_structures_are_bounded_in_bytes(structure: dict[str, Any]) -> None:
    refused({"structured_outputs": structure}, "at most 2000")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_data_urls_of_images_pass(form: str) -> None:
    check_document(message({"type": "image_url", "image_url": {"url": url(picture(form))}}), LIMITS)
    check_document({"input": [{"content": [{"type": "input_image", "image_url": url(picture(form))}]}]}, LIMITS)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_images_cut_short_are_refused(form: str) -> None:
    refused(message({"type": "image_url", "image_url": {"url": url(picture(form)[:-20])}}))


ELSEWHERE = [
    "http://127.0.0.1/x.png", "https://evil.example/x.png", "file:///etc/passwd", "ftp://images.example/x",
    "https://images.example@evil.example/x", "https://evil.example\\@images.example/x", "http://[::1",
    "//images.example/x", "", "HTTP://LOCALHOST",
]  # fmt: skip
NO_IMAGES = ["data:image/png,abc", "data:image/png;base64,!!", "data:image/png;base64,", "data:image/png;base64,QUJD"]


@pytest.mark.parametrize("where", ELSEWHERE)
@pytest.mark.parametrize("key", ["image_url", "video_url", "audio_url"])
def test_nothing_is_fetched(where: str, key: str) -> None:
    refused(message({"type": key, key: {"url": where}}))
    refused({"input": [{"content": [{key: where}]}]})
    refused({"messages": [{"content": [{"source": {"type": "url", "url": where}}]}]})


@pytest.mark.parametrize("where", NO_IMAGES)
def test_a_data_url_must_hold_an_image(where: str) -> None:
    refused(message({"type": "image_url", "image_url": {"url": where}}))
    refused({"messages": [{"content": [{"source": {"type": "url", "url": where}}]}]})


def test_an_allowed_host_may_be_named() -> None:
    check_document(message({"type": "image_url", "image_url": {"url": "https://images.example/x.png"}}), LIMITS)


@pytest.mark.parametrize("key", ["image_embeds", "prompt_embeds", "audio_embeds", "file_id"])
def test_tensors_are_not_loaded(key: str) -> None:
    refused(message({"type": key, key: "AAAA"}), key)


def test_image_bombs_are_refused_without_decoding() -> None:
    begun = time.thread_time()
    for size in ((101, 100), (50_000, 50_000), (2**31 - 1, 2**31 - 1)):
        refused(message({"image_url": {"url": url(bomb(*size))}}), "pixels|cannot be read")
    refused({"messages": [{"content": [{"image_url": url(picture(size=(100, 100)))}] * 3}]}, "together")
    assert time.thread_time() - begun < 10


@given(st.binary(max_size=300))
def test_what_is_no_image_is_refused(data: bytes) -> None:
    refused(message({"image_url": {"url": url(data)}}))


def test_the_model_must_be_this_endpoint() -> None:
    check_model({"model": "m"}, ("m",))
    check_model({}, ("m",))
    for other in ("x", 5, ["m"], ""):
        with pytest.raises(NotFound) as caught:
            check_model({"model": other}, ("m",))
        assert caught.value.field == "model"


KEYS = st.sampled_from(["$ref", "schema", "image_url", "url", "source", "anyOf", "x"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), VALUES, max_size=4))
def test_any_document_passes_or_is_refused(document: dict[str, Any]) -> None:
    try:
        check_document(document, LIMITS)
        named = True
    except BadRequest as error:
        named = error.field is not None
    assert named
