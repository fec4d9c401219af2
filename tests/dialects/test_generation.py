from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.dialects.engine import Generation
from server.dialects.generation import MAX_STOP_CHARS, MAX_STOPS, PARAMETERS, Parameter, as_markdown, parse
from server.errors import BadRequest
from server.spec import Limits

LIMITS = Limits()
NUMERIC = [row for row in PARAMETERS.values() if row.kind in ("integer", "number")]


def in_range(row: Parameter) -> st.SearchStrategy[Any]:
    low, high = row.low, row.bound(LIMITS)
    if row.kind == "integer":
        return st.integers(int(low), int(high))
    return st.floats(low, high, exclude_min=row.above, allow_nan=False)


def outside(row: Parameter) -> st.SearchStrategy[Any]:
    low, high = row.low, row.bound(LIMITS)
    wrong: st.SearchStrategy[Any] = st.one_of(st.booleans(), st.text(), st.lists(st.integers()), st.just({}))
    if row.kind == "integer":
        return wrong | st.integers(max_value=int(low) - 1) | st.integers(min_value=int(high) + 1) | st.just(1.5)
    below = st.floats(max_value=low, exclude_max=not row.above)
    above = st.floats(min_value=high, exclude_min=True)
    return wrong | below | above | st.sampled_from([float("nan"), float("inf"), -float("inf"), 10**400])


@pytest.mark.parametrize("row", NUMERIC, ids=lambda row: row.name)
def test_each_number_is_taken_in_its_range_only(row: Parameter) -> None:
    needed = {"do_sample": True} if row.name == "best_of" else {}

    @settings(max_examples=50)
    @given(in_range(row))
    def taken(value: Any) -> None:
        parse({row.name: value, **needed}, LIMITS)

    @settings(max_examples=50)
    @given(outside(row))
    def refused(value: Any) -> None:
        with pytest.raises(BadRequest) as caught:
            parse({row.name: value, **needed}, LIMITS)
        assert caught.value.field == f"parameters.{row.name}"
        assert row.name in caught.value.message
        assert row.range_text(LIMITS) in caught.value.message

    taken()
    refused()


@pytest.mark.parametrize("name", [row.name for row in PARAMETERS.values() if row.kind == "boolean"])
@pytest.mark.parametrize("value", [0, 1, "true", [], {}, 1.0])
def test_flags_are_booleans(name: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=f"{name} must be true or false"):
        parse({name: value}, LIMITS)
    parse({name: True}, LIMITS)
    parse({name: False}, LIMITS)


@pytest.mark.parametrize("name", ["stop", "stop_sequences"])
def test_stop_strings(name: str) -> None:
    assert parse({name: "end"}, LIMITS)[0].stop == ("end",)
    assert parse({name: ["a", "b"]}, LIMITS)[0].stop == ("a", "b")
    for wrong in (1, [""], [1], ["x"] * (MAX_STOPS + 1), ["x" * (MAX_STOP_CHARS + 1)], {"a": 1}):
        with pytest.raises(BadRequest, match=name):
            parse({name: wrong}, LIMITS)


def test_without_parameters_decoding_is_greedy_and_bounded() -> None:
    assert parse({}, LIMITS)[0] == Generation(max_tokens=100, temperature=0.0)


@pytest.mark.parametrize(
    "given_", [{"temperature": 0.7}, {"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}, {"do_sample": True}]
)
def test_a_sampling_parameter_makes_it_sample(given_: dict[str, Any]) -> None:
    generation, _ = parse(given_, LIMITS)
    assert generation.temperature == given_.get("temperature", 1.0)
    assert parse({**given_, "do_sample": False}, LIMITS)[0].temperature == 0.0
    assert parse({**given_, "temperature": 0}, LIMITS)[0].temperature == 0.0


def test_every_field_reaches_the_engine() -> None:
    generation, shown = parse(
        {
            "max_new_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "stop": ["x"],
            "repetition_penalty": 1.2, "presence_penalty": 0.3, "frequency_penalty": -0.4, "seed": 9, "n": 2,
            "best_of": 3, "ignore_eos": True, "truncate": 11, "return_full_text": True,
            "decoder_input_details": True, "top_n_tokens": 4,
        },
        LIMITS,
    )  # fmt: skip
    assert generation == Generation(
        max_tokens=7, temperature=0.5, top_p=0.9, top_k=3, min_p=0.1, stop=("x",), repetition_penalty=1.2,
        presence_penalty=0.3, frequency_penalty=-0.4, seed=9, n=3, logprobs=4, prompt_logprobs=True,
        ignore_eos=True, truncate=11,
    )  # fmt: skip
    assert (shown.n, shown.details, shown.top_n_tokens, shown.return_full_text, shown.seed) == (2, True, 4, True, 9)


def test_off_values_are_the_engines_off() -> None:
    generation, _ = parse({"top_k": 0, "top_p": 1.0}, LIMITS)
    assert (generation.top_k, generation.top_p, generation.temperature) == (-1, 1.0, 1.0)
    assert parse({"temperature": None, "stop": None}, LIMITS) == parse({}, LIMITS)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"tempreature": 1}, "tempreature is unknown; known are max_new_tokens, "),
        ({"max_tokens": 5, "max_new_tokens": 5}, "given twice"),
        ({"n": 3, "best_of": 2}, "best_of is 2, but n is 3"),
        ({"n": 2, "do_sample": False}, "n is 2, but decoding is greedy"),
        ({"best_of": 2, "temperature": 0}, "best_of is 2, but decoding is greedy"),
        ({"n": 10**6}, "n must be an integer from 1 to 16; 1000000 was given"),
    ],
)
def test_contradictions_are_named(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        parse(parameters, LIMITS)


@pytest.mark.parametrize("parameters", [{"n": 2}, {"best_of": 2}, {"decoder_input_details": True}])
def test_what_a_stream_cannot_show_is_refused(parameters: dict[str, Any]) -> None:
    parse(parameters, LIMITS)
    with pytest.raises(BadRequest, match=next(iter(parameters))):
        parse(parameters, LIMITS, stream=True)


NAMES = st.text(max_size=20) | st.sampled_from(list(PARAMETERS))
SCALARS = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)


@given(st.dictionaries(NAMES, SCALARS | st.lists(st.text(max_size=3), max_size=3), max_size=6))
def test_whatever_comes_is_parsed_or_refused(parameters: dict[str, Any]) -> None:
    try:
        generation, _ = parse(parameters, LIMITS)
    except BadRequest as error:
        named = error.field
    else:
        named = "parameters" if 1 <= generation.n <= LIMITS.max_choices else None
    assert named is not None


def test_the_table_documents_every_parameter() -> None:
    text = as_markdown(LIMITS)
    assert all(f"| `{name}` |" in text for name in PARAMETERS)
