"""What may be kept, under which key, and how much of it: without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.control import caching
from server.dialects.documents import PARSED
from server.dialects.paths import route_of
from server.errors import BadRequest
from server.guard.caching.question import Model, key, repeatable
from server.guard.caching.store import OVERHEAD_BYTES, Answer, Store
from server.spec import Cache, Limits

CHAT, COMPLETIONS, RUNTIME = "/v1/chat/completions", "/v1/completions", "/endpoints/m/invocations"
STREAM = "/endpoints/m/invocations-response-stream"
JSON = (b"content-type", b"application/json")
SAGEMAKER = b"x-amzn-sagemaker-"


def scope_of(path: str, document: Any, *headers: tuple[bytes, bytes], query: bytes = b"") -> dict[str, Any]:
    state = {PARSED: document} if isinstance(document, dict) else {}
    return {"type": "http", "method": "POST", "path": path, "query_string": query, "headers": [JSON, *headers],
            "state": state}  # fmt: skip


def may(path: str, document: Any, *headers: tuple[bytes, bytes], model: Model | None = None) -> bool:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return repeatable(model or Model(), route_of(path), scope_of(path, document, *headers), body)


def key_of(path: str, document: Any, *headers: tuple[bytes, bytes], keeper: tuple[str, ...] = ("1",)) -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return key(scope_of(path, document, *headers), body, keeper)


@pytest.mark.parametrize(
    ("path", "document", "kept"),
    [
        (CHAT, {"messages": [], "temperature": 0}, True),
        (CHAT, {"messages": [], "temperature": 0.0, "stream": False}, True),
        (CHAT, {"messages": [], "seed": 5, "temperature": 1}, True),
        (CHAT, {"messages": []}, False),
        (CHAT, {"messages": [], "temperature": 0.5}, False),
        (CHAT, {"messages": [], "temperature": False}, False),
        (CHAT, {"messages": [], "seed": None}, False),
        (CHAT, {"messages": [], "temperature": 0, "stream": True}, False),
        (COMPLETIONS, {"prompt": "x", "temperature": 0}, True),
        ("/v1/responses", {"input": "x", "temperature": 0}, True),
        ("/v1/responses", {"input": "x", "temperature": 0, "previous_response_id": "r"}, False),
        ("/v1/messages", {"messages": [], "temperature": 0}, True),
        ("/v1/messages", {"messages": [], "seed": 1}, False),
        ("/v1/embeddings", {"input": "x"}, True),
        ("/v1/rerank", {"query": "x"}, True),
        ("/v1/tokenize", {"prompt": "x", "temperature": 0}, False),
        ("/v1/models", {"temperature": 0}, False),
        (RUNTIME, {"inputs": "x"}, True),
        (RUNTIME, {"inputs": "x", "parameters": {"do_sample": True}}, False),
        (RUNTIME, {"inputs": "x", "parameters": {"do_sample": True, "seed": 0}}, True),
        (RUNTIME, {"inputs": "x", "parameters": {"temperature": 0.7}}, False),
        (RUNTIME, {"inputs": "x", "parameters": {"temperature": 0}}, True),
        (RUNTIME, {"inputs": "x", "parameters": {"unknown": 0}}, False),
        (RUNTIME, {"inputs": "x", "parameters": [1]}, False),
        (RUNTIME, {"inputs": "x", "stream": True}, False),
        (RUNTIME, {"messages": [], "temperature": 0}, True),
        (RUNTIME, {"messages": []}, False),
        (RUNTIME, {"prompt": "x", "seed": 1}, True),
        (RUNTIME, {"nothing": 1}, False),
        (STREAM, {"inputs": "x"}, False),
        ("/invocations", {"inputs": "x"}, True),
        ("/elsewhere", {"inputs": "x"}, False),
    ],
)  # fmt: skip
def test_only_what_is_repeatable_is_kept(path: str, document: Any, kept: bool) -> None:
    assert may(path, document) is kept


def test_bodies_of_opaque_models_are_kept_where_that_was_declared() -> None:
    session = (SAGEMAKER + b"session-id", b"s1")
    assert not may(RUNTIME, b"1,2,3", model=Model(opaque=True))
    assert may(RUNTIME, b"1,2,3", model=Model(opaque=True, declared=True))
    assert not may(RUNTIME, b"1,2,3", session, model=Model(opaque=True, declared=True))
    assert not may(STREAM, b"1,2,3", model=Model(opaque=True, declared=True))
    assert may(RUNTIME, {"inputs": "x"}, session)


def test_models_that_draw_nothing_need_no_parameters() -> None:
    assert may(RUNTIME, b"\x89PNG", model=Model(generates=False))
    assert may(RUNTIME, {"inputs": "x", "parameters": {"top_k": 1}}, model=Model(generates=False))
    assert not may(RUNTIME, b"\x89PNG")


def test_a_providers_answers_are_kept_where_that_was_declared() -> None:
    greedy = {"messages": [], "temperature": 0}
    assert not may(CHAT, greedy, model=Model(elsewhere=True))
    assert may(CHAT, greedy, model=Model(elsewhere=True, declared=True))
    assert not may(CHAT, {"messages": []}, model=Model(elsewhere=True, declared=True))


def test_what_another_host_says_is_not_kept() -> None:
    image = {"messages": [{"content": [{"image_url": {"url": "https://a/b.png"}}]}], "temperature": 0}
    assert may(CHAT, image)  # refused further on: no host is allowed
    assert not may(CHAT, image, model=Model(limits=Limits(allowed_media_hosts=("a",))))


@pytest.mark.parametrize("value", [b"", b"x" * 65, b" ", b"\xff"])
def test_a_header_that_the_key_leaves_out_must_be_one_that_is_answered(value: bytes) -> None:
    assert not may(RUNTIME, {"inputs": "x"}, (SAGEMAKER + b"inference-id", value))
    assert may(RUNTIME, {"inputs": "x"}, (SAGEMAKER + b"inference-id", b"id-1"))
    assert not may(RUNTIME, {"inputs": "x"}, (SAGEMAKER + b"session-id", b"NEW_SESSION"))


def test_blanks_the_order_of_fields_and_ids_do_not_matter() -> None:
    one = {"model": "m", "messages": [{"role": "user", "content": "é"}], "temperature": 0}
    other = dict(reversed(one.items()))
    assert key_of(CHAT, one) == key_of(CHAT, other, (SAGEMAKER + b"inference-id", b"7"), (b"x-request-id", b"9"))
    assert key_of(CHAT, one) == key_of(CHAT, one, (SAGEMAKER + b"session-id", b"s"), (b"authorization", b"k"))


def test_whatever_may_change_the_answer_is_in_the_key() -> None:
    one = {"messages": [{"role": "user", "content": "x"}], "tools": [{"a": 1, "b": 2}], "temperature": 0}
    inner = {**one, "tools": [{"b": 2, "a": 1}]}
    keys = [
        key_of(CHAT, one), key_of(CHAT, inner), key_of(CHAT, {**one, "temperature": 0.0}),
        key_of(CHAT, {**one, "cache_salt": "s"}), key_of("/endpoints/m/openai/v1/chat/completions", one),
        key_of(CHAT, one, keeper=("2",)), key_of(CHAT, one, keeper=("1", "p")),
        key_of(CHAT, one, (b"accept", b"text/csv")),
        *(key_of(CHAT, one, (SAGEMAKER + name, b"v")) for name in
          (b"accept", b"target-model", b"target-variant", b"target-container-hostname", b"inference-component",
           b"custom-attributes", b"enable-explanations")),
        key(scope_of(CHAT, one, query=b"a=1"), b"", ("1",)),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)


documents = st.dictionaries(
    st.text(max_size=3), st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
        max_leaves=6,
    ), max_size=4,
)  # fmt: skip


@given(documents, documents)
def test_keys_are_equal_where_bodies_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    shuffled = dict(sorted(one.items(), reverse=True))
    assert key_of(CHAT, one) == key_of(CHAT, shuffled)
    same = json.dumps(dict(sorted(one.items()))) == json.dumps(dict(sorted(other.items())))
    assert (key_of(CHAT, one) == key_of(CHAT, other)) is same


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 400), st.integers(0, 3)), max_size=60))
def test_bounds_hold_whatever_comes(steps: list[tuple[int, int, int]]) -> None:
    now = 0.0
    store = Store(max_bytes=4 * OVERHEAD_BYTES + 300, max_entries=3, ttl_s=5, clock=lambda: now)
    put: dict[bytes, tuple[Answer, float]] = {}
    for number, size, passes in steps:
        now += passes
        name = bytes([number])
        if (found := store.get(name)) is not None:
            answer, at = put[name]
            assert found is answer
            assert now < at + 5
        else:
            put[name] = Answer((), bytes(size)), now
            store.put(name, put[name][0])
        assert len(store) <= 3
        assert 0 <= store.bytes <= 4 * OVERHEAD_BYTES + 300
        kept = [answer for one, (answer, _) in put.items() if one in store._entries]
        assert store.bytes == sum(answer.size for answer in kept)


def test_what_was_asked_for_longest_ago_goes_first_and_age_counts() -> None:
    now = 0.0
    went: list[str] = []
    store = Store(max_bytes=10**6, max_entries=2, ttl_s=5, evicted=went.append, clock=lambda: now)
    a, b, c = (Answer((), name) for name in (b"a", b"b", b"c"))
    store.put(b"a", a)
    store.put(b"b", b)
    assert store.get(b"a") is a
    store.put(b"c", c)
    assert store.get(b"b") is None
    now = 5.0
    assert store.get(b"a") is None
    assert went == ["space", "age"]
    store.put(b"c", a)
    assert store.get(b"c") is a
    store.put(b"large", Answer((), bytes(10**6)))
    assert len(store) == 1


def test_the_environment_of_a_container_asks_for_it() -> None:
    assert caching.asked([{}]) is None
    assert caching.asked([{"HEARTH_CACHE": "false"}]) is None
    assert caching.asked([{"HEARTH_CACHE": "true"}]) == Cache()
    asked = {"HEARTH_CACHE": "1", "HEARTH_CACHE_TTL_S": "60", "HEARTH_CACHE_SHARED_BY": "principal",
             "HEARTH_CACHE_DETERMINISTIC": "true", "HEARTH_CACHE_MAX_BYTES": "1000"}  # fmt: skip
    wanted = Cache(ttl_s=60, shared_by="principal", deterministic=True, max_bytes=1000)
    assert caching.asked([{}, asked, asked]) == wanted


@pytest.mark.parametrize(
    ("environs", "words"),
    [
        ([{"HEARTH_CACHE": "yes"}], "HEARTH_CACHE must be true or false"),
        ([{"HEARTH_CACHE_TTL_S": "1"}], "HEARTH_CACHE=true turns it on"),
        ([{"HEARTH_CACHE": "true", "HEARTH_CACHE_TTL_S": "0"}], "HEARTH_CACHE_TTL_S: Input should be greater than 0"),
        ([{"HEARTH_CACHE": "true", "HEARTH_CACHE_TTL": "1"}], "HEARTH_CACHE_TTL is unknown"),
        ([{"HEARTH_CACHE": "true"}, {"HEARTH_CACHE": "false"}], "share a cache"),
    ],
)
def test_what_is_wrong_is_named(environs: list[dict[str, str]], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        caching.asked(environs)
