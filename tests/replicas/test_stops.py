"""Stop strings on vLLM: its own output processing (detokenizer, choices, log probabilities), fed scripted tokens."""

from __future__ import annotations

import asyncio
import importlib
import json
import warnings
from collections.abc import AsyncIterator, Sequence
from copy import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tokenizers import AddedToken

from server.dialects import text
from server.dialects.engine import Generation, Step
from server.dialects.generation import Presentation
from server.replicas.llm import VllmText
from tests.fixtures import byte_tokenizer


@pytest.fixture(autouse=True, scope="module")
def vllm_imported() -> None:
    """Here, where the warnings of what it imports are no errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("vllm.v1.engine.output_processor")


class Scripted:
    """An `AsyncLLM` whose model says what it is told, one byte a token, then the end token.

    `burst` engine steps pass between two looks of the reader; `made` is the number of tokens made for each choice.
    """

    def __init__(self, scripts: Sequence[str], burst: int = 1, visible_end: bool = False) -> None:
        if visible_end:
            self.tokenizer = byte_tokenizer.build([])
            self.tokenizer.add_tokens([AddedToken("</s>", special=False, normalized=False)])
        else:
            self.tokenizer = byte_tokenizer.build(["</s>"], eos_token="</s>")
        self.end = self.tokenizer.convert_tokens_to_ids("</s>")
        self.scripts = [[*self.tokenizer(script)["input_ids"], self.end] for script in scripts]
        self.burst = burst
        self.made = [0] * len(scripts)
        self.closed = False
        self.model_config = SimpleNamespace(
            max_model_len=1000, is_encoder_decoder=False, try_get_generation_config=lambda: {"eos_token_id": self.end}
        )
        self.renderer = SimpleNamespace(render_cmpl_async=self._render)

    def get_tokenizer(self) -> Any:
        return self.tokenizer

    async def _render(self, prompts: Sequence[Any], params: Any) -> list[Any]:
        return [{"prompt_token_ids": self.tokenizer("say ")["input_ids"]}]

    async def generate(self, rendered: Any, params: Any, request_id: str) -> AsyncIterator[Any]:
        from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector

        processor = OutputProcessor(self.tokenizer, log_stats=False)
        queue = RequestOutputCollector(params.output_kind, request_id)
        running = self._add(processor, queue, rendered["prompt_token_ids"], params)
        finished = False
        try:
            while not finished:
                for _ in range(self.burst):
                    self._step(processor, running, params)
                if (output := queue.get_nowait()) is not None:
                    finished = output.finished
                    yield output
        finally:
            self.closed = True

    def _add(self, processor: Any, queue: Any, prompt: list[int], params: Any) -> dict[str, int]:
        """As `AsyncLLM.add_request` does; returns the number of the choice for each request."""
        from vllm.v1.engine import EngineCoreRequest
        from vllm.v1.engine.parallel_sampling import ParentRequest

        request = EngineCoreRequest("r-1", prompt, None, params, None, 0.0, None, None, None, external_req_id="r")
        if params.n == 1:
            processor.add_request(request, None, None, 0, queue)
            return {"r-1": 0}
        parent = ParentRequest(request)
        running = {}
        for index in range(params.n):
            child = copy(request)
            child.request_id, child.sampling_params = parent.get_child_info(index)
            processor.add_request(child, None, parent, index, queue)
            running[child.request_id] = index
        return running

    def _step(self, processor: Any, running: dict[str, int], params: Any) -> None:
        from vllm.v1.engine import EngineCoreOutput, FinishReason

        outputs = []
        for request, index in list(running.items()):
            token = self.scripts[index][self.made[index]]
            self.made[index] += 1
            over = FinishReason.LENGTH if self.made[index] == params.max_tokens else None
            output = EngineCoreOutput(request, [token], finish_reason=FinishReason.STOP if token == self.end else over)
            if params.logprobs is not None:
                output.new_logprobs = self._logprobs(token, self.made[index])
            if output.finish_reason is not None:
                del running[request]
            outputs.append(output)
        for request in processor.process_outputs(outputs).reqs_to_abort:
            del running[request]

    def _logprobs(self, token: int, position: int) -> Any:
        from vllm.v1.outputs import LogprobsLists

        return LogprobsLists(np.array([[token]]), np.array([[-0.5 * position]]), np.array([1]), None)


def generation(stop: Sequence[str], **more: Any) -> Generation:
    return Generation(**{"max_tokens": 500, "stop": tuple(stop), **more})


async def steps_of(engine: Scripted, parameters: Generation) -> list[Step]:
    return [step async for step in VllmText(engine).generate("say ", parameters, "r")]


def first_end(script: str, stops: Sequence[str]) -> tuple[str, str | None, int]:
    """The text before the first stop string to end; that stop string; the number of bytes up to its end."""
    for end in range(1, len(script) + 1):
        if ending := [stop for stop in stops if script[:end].endswith(stop)]:
            stop = max(ending, key=len)
            return script[: end - len(stop)], stop, len(script[:end].encode())
    return script, None, len(script.encode()) + 1


LETTERS = "aé🙂"


@given(
    st.text(LETTERS, max_size=12),
    st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(1, 5),
    st.booleans(),
)
@settings(deadline=None)
def test_text_tokens_and_reason(script: str, stops: list[str], burst: int, visible_end: bool) -> None:
    engine = Scripted([script], burst, visible_end)
    steps = asyncio.run(steps_of(engine, generation(stops, logprobs=0)))
    expected, stop, tokens = first_end(script, stops)
    assert "".join(step.text for step in steps) == expected
    made = [token for step in steps for token in step.tokens]
    assert [token.id for token in made] == engine.scripts[0][:tokens]
    assert [token.logprob for token in made] == [-0.5 * position for position in range(1, tokens + 1)]
    assert steps[-1].finish_reason == "stop"
    assert all(step.finish_reason is None for step in steps[:-1])
    assert steps[-1].stop_reason == stop
    assert engine.made[0] <= tokens, "no step of the engine after the one that completes a stop string"
    assert engine.closed


async def test_only_what_may_begin_a_stop_string_waits() -> None:
    steps = await steps_of(Scripted(["one < two <b and so <br> on"]), generation(["<br>", "</paragraph>"]))
    shown = [step.text for step in steps]
    assert shown[:13] == ["o", "n", "e", " ", "", "< ", "t", "w", "o", " ", "", "", "<b "]
    assert "".join(shown) == "one < two <b and so "
    assert (steps[-1].finish_reason, steps[-1].stop_reason) == ("stop", "<br>")


async def test_a_character_comes_whole_and_its_bytes_are_no_stop() -> None:
    steps = await steps_of(Scripted(["é🙃🙂"]), generation(["🙂"]))
    assert [step.text for step in steps] == ["", "é", "", "", "", "🙃", "", "", "", ""]


@pytest.mark.parametrize(("most", "reason"), [(500, "stop"), (5, "length")])
async def test_what_waits_is_shown_at_the_end(most: int, reason: str) -> None:
    steps = await steps_of(Scripted(["ab <b"]), generation(["<br>"], max_tokens=most))
    assert "".join(step.text for step in steps) == "ab <b"
    assert (steps[-1].finish_reason, steps[-1].stop_reason) == (reason, None)


@pytest.mark.parametrize("visible_end", [False, True])
async def test_the_stop_string_that_starts_first_is_told(visible_end: bool) -> None:
    """vLLM alone would take the one that is first in the list, and answer ``x</``."""
    steps = await steps_of(Scripted(["x</s end"], visible_end=visible_end), generation(["s", "</s"]))
    assert "".join(step.text for step in steps) == "x"
    assert steps[-1].stop_reason == "</s"


async def test_one_choice_ends_and_the_others_go_on() -> None:
    engine = Scripted(["a. b", "no stop here", "."])
    steps = await steps_of(engine, generation(["."], n=3))
    assert ["".join(step.text for step in steps if step.index == index) for index in range(3)] == [
        "a", "no stop here", "",
    ]  # fmt: skip
    ends = {step.index: step.stop_reason for step in steps if step.finish_reason is not None}
    assert ends == {0: ".", 1: None, 2: "."}
    assert engine.made == [2, 13, 1]


async def test_the_likeliest_choice_counts_the_tokens_of_its_stop_string() -> None:
    engine = Scripted(["long text. more", "b. more"])
    shown = Presentation(details=True)
    (answer,) = await text.answer(VllmText(engine), "say ", generation(["."], n=2, logprobs=0), shown, "r")
    assert answer["generated_text"] == "b"
    assert [token["text"] for token in answer["details"]["tokens"]] == ["b", "."]
    assert answer["details"]["finish_reason"] == "stop_sequence"
    assert answer["details"]["best_of_sequences"][0]["generated_tokens"] == 10


@pytest.mark.parametrize("burst", [1, 4])
async def test_a_stream_is_the_whole_answer(burst: int) -> None:
    parameters, shown = generation(["</answer>", "\n\n"], logprobs=0), Presentation(details=True)
    script = "a <b> é\n c</answer> d"
    (whole,) = await text.answer(VllmText(Scripted([script])), "say ", parameters, shown, "r")
    stream = text.stream(VllmText(Scripted([script], burst)), "say ", parameters, shown, "r")
    events = [
        json.loads(line.removeprefix(b"data:")) async for part in stream for line in part.split(b"\n\n") if line
    ]
    assert "".join(event["token"]["text"] for event in events) == whole["generated_text"] == "a <b> é\n c"
    assert events[-1]["generated_text"] == whole["generated_text"]
    details = events[-1]["details"]
    assert details["generated_tokens"] == whole["details"]["generated_tokens"] == len(events)
    assert details["finish_reason"] == whole["details"]["finish_reason"] == "stop_sequence"


async def test_an_end_token_with_a_text_is_not_shown() -> None:
    with capture_logs() as logs:
        steps = await steps_of(Scripted(["ab <"], visible_end=True), generation(["s>", "<br>"]))
    assert "".join(step.text for step in steps) == "ab <"
    assert (steps[-1].finish_reason, steps[-1].stop_reason) == ("stop", None)
    assert [entry["log_level"] for entry in logs] == ["warning"]
    with capture_logs() as logs:
        VllmText(Scripted([""]))
    assert logs == []
