"""The generation parameters of a SageMaker `{"inputs", "parameters"}` body: one table.

Names and meanings are text-generation-inference's, with DJL's and vLLM's where these go further.
Sampling happens when `do_sample` is true, or when it is absent and any sampling parameter is given;
`do_sample: false` or `temperature: 0` means greedy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from server.dialects.documents import json_type
from server.dialects.engine import Generation
from server.errors import BadRequest
from server.spec import Limits

DEFAULT_NEW_TOKENS = 100
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_INT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Parameter:
    """One row: what a parameter is and which values it takes.

    The range is `low` to `high`, `low` itself excluded when `above` is set. `limit` names the field of
    `Limits` that gives `high`; `same_as` names the parameter that this one is another word for.
    """

    name: str
    kind: Literal["integer", "number", "boolean", "strings"]
    doc: str
    low: float = 0
    high: float = MAX_INT
    above: bool = False
    default: str = "off"
    limit: str | None = None
    same_as: str | None = None

    def bound(self, limits: Limits) -> float:
        return self.high if self.limit is None else float(getattr(limits, self.limit))

    def range_text(self, limits: Limits) -> str:
        if self.kind == "boolean":
            return "true or false"
        if self.kind == "strings":
            return f"a string or at most {MAX_STOPS} strings, each 1 to {MAX_STOP_CHARS} characters"
        start = f"above {self.low:g}, at most" if self.above else f"from {self.low:g} to"
        noun = "an integer" if self.kind == "integer" else "a number"
        high = self.bound(limits)
        return f"{noun} {start} {int(high) if high == int(high) else high}"


PARAMETERS: Mapping[str, Parameter] = {
    row.name: row
    for row in (
        Parameter("max_new_tokens", "integer", "Most tokens to generate; the context may end it earlier.", 1, 10**6,
                  default=str(DEFAULT_NEW_TOKENS)),
        Parameter("max_tokens", "integer", "Same as max_new_tokens.", 1, 10**6, same_as="max_new_tokens"),
        Parameter("do_sample", "boolean", "True: sample; false: greedy.",
                  default="true if a sampling parameter is given"),
        Parameter("temperature", "number", "Divides the logits; 0 means greedy.", 0, 100, default="1 when sampling"),
        Parameter("top_p", "number", "Sample from the smallest set of tokens with this probability.", 0, 1, above=True),
        Parameter("top_k", "integer", "Sample from this many tokens; -1 or 0: from all.", -1),
        Parameter("min_p", "number", "Leave out tokens below this share of the likeliest one's probability.", 0, 1),
        Parameter("stop", "strings", "End where one of these would appear; it is not part of the text."),
        Parameter("stop_sequences", "strings", "Same as stop.", same_as="stop"),
        Parameter("repetition_penalty", "number", "Above 1 discourages tokens of prompt and text.", 0, 100, above=True,
                  default="1"),
        Parameter("presence_penalty", "number", "Above 0 discourages tokens that the text has.", -2, 2, default="0"),
        Parameter("frequency_penalty", "number", "The same, by how often it has them.", -2, 2, default="0"),
        Parameter("seed", "integer", "Makes sampling repeatable.", 0, 2**63 - 1),
        Parameter("n", "integer", "Answers per input, each an entry of the array; above 1 implies sampling.", 1,
                  limit="max_choices", default="1"),
        Parameter("best_of", "integer", "Generate this many, answer the n likeliest; the others are in details.", 1,
                  limit="max_choices", default="n"),
        Parameter("return_full_text", "boolean", "Begin the text with the prompt.", default="false"),
        Parameter("details", "boolean", "Add tokens, log probabilities and why it ended.", default="false"),
        Parameter("decoder_input_details", "boolean", "The prompt's tokens too, as details.prefill; implies details.",
                  default="false"),
        Parameter("top_n_tokens", "integer", "Likeliest alternatives, as details.top_tokens; implies details.",
                  0, limit="max_logprobs", default="0"),
        Parameter("truncate", "integer", "Keep only this many last tokens of the prompt.", 1),
        Parameter("ignore_eos", "boolean", "Go on past the end-of-text token.", default="false"),
    )
}  # fmt: skip

SAMPLERS = ("temperature", "top_p", "top_k", "min_p")
"""Any of these makes a request sample."""


@dataclass(frozen=True, slots=True)
class Presentation:
    """What of a generation the answer shows. `n` of the generated choices are answered, likeliest first
    when there are more."""

    n: int = 1
    return_full_text: bool = False
    details: bool = False
    decoder_input_details: bool = False
    top_n_tokens: int = 0
    seed: int | None = None


def parse(
    parameters: Mapping[str, Any], limits: Limits, *, stream: bool = False
) -> tuple[Generation, Presentation]:
    """Raises BadRequest that names the parameter, what was given and what is allowed."""
    values = _checked(parameters, limits)
    n = values.get("n", 1)
    choices = values.get("best_of", n)
    if choices < n:
        raise _wrong("best_of", f"is {choices}, but n is {n}; best_of must be at least n")
    if stream:
        _check_streamable(values, choices)
    top_n = values.get("top_n_tokens", 0)
    prompt_too = values.get("decoder_input_details", False)
    shown = Presentation(
        n=n,
        return_full_text=values.get("return_full_text", False),
        details=values.get("details", False) or prompt_too or top_n > 0,
        decoder_input_details=prompt_too,
        top_n_tokens=top_n,
        seed=values.get("seed"),
    )
    needed = shown.details or stream or choices > n
    generation = Generation(
        max_tokens=values.get("max_new_tokens", DEFAULT_NEW_TOKENS),
        stop=values.get("stop", ()),
        repetition_penalty=values.get("repetition_penalty", 1.0),
        presence_penalty=values.get("presence_penalty", 0.0),
        frequency_penalty=values.get("frequency_penalty", 0.0),
        seed=values.get("seed"),
        n=choices,
        logprobs=top_n if needed else None,
        prompt_logprobs=prompt_too,
        ignore_eos=values.get("ignore_eos", False),
        truncate=values.get("truncate"),
        **_sampling(values, choices),
    )
    return generation, shown


def as_markdown(limits: Limits) -> str:
    """The table for the documentation."""
    rows = [
        f"| `{row.name}` | {row.range_text(limits)} | {row.default if row.same_as is None else ''} | {row.doc} |"
        for row in PARAMETERS.values()
    ]
    return "\n".join(("| parameter | values | default | meaning |", "| --- | --- | --- | --- |", *rows, ""))


def _sampling(values: Mapping[str, Any], choices: int) -> dict[str, Any]:
    wanted = values.get("do_sample", choices > 1 or any(name in values for name in SAMPLERS))
    if not wanted or values.get("temperature") == 0:
        if choices > 1:
            raise _wrong("n" if "n" in values else "best_of", f"is {choices}, but decoding is greedy; use sampling")
        return {"temperature": 0.0}
    return {
        "temperature": values.get("temperature", 1.0),
        "top_p": values.get("top_p", 1.0),
        "top_k": values.get("top_k") or -1,
        "min_p": values.get("min_p", 0.0),
    }


def _check_streamable(values: Mapping[str, Any], choices: int) -> None:
    if choices > 1:
        raise _wrong("n" if values.get("n", 1) > 1 else "best_of", f"is {choices}; a stream has one answer")
    if values.get("decoder_input_details"):
        raise _wrong("decoder_input_details", "is not available in a stream")


def _checked(parameters: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Values by canonical name; null means not given."""
    values: dict[str, Any] = {}
    for name, value in parameters.items():
        row = PARAMETERS.get(name)
        if row is None:
            raise _wrong(name, f"is unknown; known are {', '.join(PARAMETERS)}")
        if value is None:
            continue
        target = row.same_as or name
        if target in values:
            raise _wrong(name, "is given twice, under two names")
        values[target] = _value(row, value, limits)
    return values


def _value(row: Parameter, value: Any, limits: Limits) -> Any:
    if row.kind == "boolean":
        if not isinstance(value, bool):
            raise _out_of_range(row, value, limits)
        return value
    if row.kind == "strings":
        return _strings(row, value, limits)
    kinds = int if row.kind == "integer" else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise _out_of_range(row, value, limits)
    too_low = value <= row.low if row.above else value < row.low
    if too_low or value > row.bound(limits) or not math.isfinite(value):
        raise _out_of_range(row, value, limits)
    return value if row.kind == "integer" else float(value)


def _strings(row: Parameter, value: Any, limits: Limits) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or len(listed) > MAX_STOPS:
        raise _out_of_range(row, value, limits)
    if not all(isinstance(each, str) and 0 < len(each) <= MAX_STOP_CHARS for each in listed):
        raise _out_of_range(row, value, limits)
    return tuple(cast("list[str]", listed))


def _out_of_range(row: Parameter, value: Any, limits: Limits) -> BadRequest:
    given = json_type(value) if isinstance(value, str | list | dict) else str(value).lower()[:40]
    return _wrong(row.name, f"must be {row.range_text(limits)}; {given} was given")


def _wrong(name: str, problem: str) -> BadRequest:
    return BadRequest(f"parameter {name[:100]} {problem}", field=f"parameters.{name[:100]}")
