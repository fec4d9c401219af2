"""Stop strings in a text that comes in pieces, against the meaning written out by brute force."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, AnyStr

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernels.stopping import StopStrings

UNITS = st.sampled_from(["ab", "abc", "aé🙂", "é\u0301ß", "\n </", "かなカ"])


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], str, list[int]]:
    """Stops, a text in which they are likely, and where it is split."""
    units = draw(UNITS)
    stops = draw(st.lists(st.text(units, min_size=1, max_size=6), min_size=1, max_size=6))
    parts = draw(st.lists(st.one_of(st.text(units, max_size=6), st.sampled_from(stops)), max_size=6))
    text = "".join(parts)
    cuts = draw(st.lists(st.integers(0, len(text.encode())), max_size=12))
    return stops, text, sorted(cuts)


def pieces(text: AnyStr, cuts: Sequence[int]) -> list[AnyStr]:
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]


def first_end(text: AnyStr, stops: Sequence[AnyStr]) -> tuple[AnyStr, AnyStr | None]:
    """The text before the stop that ends first, the longest of those that end there; and that stop."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


def could_be_cut(text: AnyStr, stops: Sequence[AnyStr]) -> int:
    """How many of the last characters some stop would still cut, if the right characters came next."""
    for held in range(len(text), 0, -1):
        tail = text[len(text) - held :]
        for stop in stops:
            going_on = text + stop[held:]
            if len(stop) > held and stop.startswith(tail) and first_end(going_on, stops)[0] == text[: len(text) - held]:
                return held
    return 0


def check(stops: list[AnyStr], text: AnyStr, cuts: list[int]) -> None:
    expected, stop = first_end(text, stops)
    stream = StopStrings(stops).stream()
    shown = seen = text[:0]
    found = None
    for piece in pieces(text, cuts):
        seen += piece
        new, found = stream.feed(piece)
        shown += new
        assert expected.startswith(shown), "what was shown is cut later"
        if found is not None:
            break
        assert len(shown) == len(seen) - could_be_cut(seen, stops), "more is held back than need be"
    assert found == stop
    if stop is None:
        shown += stream.flush()
    assert shown == expected
    assert stream.feed(text) == (text[:0], stop) if stop is not None else stream.flush() == text[:0]


@given(cases())
@example((["ab", "xab", "aby"], "zxaby", [1, 2, 3, 4]))
@example((["b", "ab"], "cab", [2]))
@example((["abcd", "bc"], "abcd", [1, 2]))
@example((["ab", "xaby"], "xac", [1]))
def test_the_first_end_cuts_however_the_text_is_split(case: tuple[list[str], str, list[int]]) -> None:
    stops, text, cuts = case
    check(stops, text, [min(cut, len(text)) for cut in cuts])


@given(cases())
def test_bytes_may_be_split_inside_a_character(case: tuple[list[str], str, list[int]]) -> None:
    stops, text, cuts = case
    check([stop.encode() for stop in stops], text.encode(), cuts)
    in_text, in_bytes = first_end(text, stops), first_end(text.encode(), [stop.encode() for stop in stops])
    assert in_text[0].encode() == in_bytes[0], "UTF-8 finds what the text has"


def test_a_stop_of_one_character_comes_byte_by_byte() -> None:
    stream = StopStrings(["🙂".encode()]).stream()
    shown = [stream.feed(bytes([byte])) for byte in "é🙃🙂!".encode()]
    assert b"".join(text for text, _ in shown).decode() == "é🙃"
    assert [stop is not None for _, stop in shown] == [False] * 9 + [True, True]


def test_text_that_begins_no_stop_flows_at_once() -> None:
    stream = StopStrings(["\n\nHuman:", "</answer>"]).stream()
    assert stream.feed("The answer < 4") == ("The answer < 4", None)
    assert stream.feed("\n") == ("", None)
    assert stream.feed("\n\nHum") == ("\n", None)
    assert stream.feed("ble") == ("\n\nHumble", None)


def test_streams_of_one_automaton_do_not_meet() -> None:
    automaton = StopStrings(["end"])
    one, other = automaton.stream(), automaton.stream()
    assert one.feed("the e") == ("the ", None)
    assert other.feed("nd") == ("nd", None)
    assert one.feed("nd.") == ("", "end")
    assert one.flush() == ""


@pytest.mark.parametrize("stops", [[], [""], ["a", ""]])
def test_a_stop_has_a_character(stops: list[str]) -> None:
    with pytest.raises(ValueError, match="at least one character"):
        StopStrings(stops)


class Counting(dict[Any, Any]):
    """Edges of a node that count how often one was looked for."""

    asked = 0

    def get(self, key: Any, default: Any = None) -> Any:
        Counting.asked += 1
        return super().get(key, default)


@pytest.mark.parametrize("count", [1, 16, 512])
@pytest.mark.parametrize("split", [1, 7, 10_000])
def test_cost_is_linear_in_the_text_however_many_stops(count: int, split: int) -> None:
    """The worst text for failure links: long runs that nearly complete every stop."""
    stops = ["a" * length + chr(0x4E00 + length) for length in range(1, count + 1)]
    automaton = StopStrings(stops)
    automaton.edges = [Counting(edges) for edges in automaton.edges]
    text = ("a" * 700 + "b") * 14
    Counting.asked = 0
    stream = automaton.stream()
    shown = "".join(stream.feed(text[at : at + split]).text for at in range(0, len(text), split)) + stream.flush()
    assert shown == text
    assert Counting.asked <= 2 * len(text)


def test_building_is_linear_in_the_stops() -> None:
    stops = ["ab" * length + "c" for length in range(1, 200)] + ["b" + "ab" * 199 + "a"]
    automaton = StopStrings(stops)
    assert len(automaton.edges) <= 1 + sum(map(len, stops))
    Counting.asked = 0
    automaton.edges = [Counting(edges) for edges in automaton.edges]
    automaton._link()
    assert Counting.asked <= 2 * sum(map(len, stops))
