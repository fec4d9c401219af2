"""What is sent to an endpoint and what its answer says, for each API a server may speak.

A dialect makes the body of a request and, once the reply is complete, reads it into an `Outcome`; nothing is
decoded while the clock of a request runs.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.client import Reply
from benchmarks.framing import Event, aws_events, server_sent

DONE = b"[DONE]"


@dataclass(slots=True)
class Outcome:
    """A reply as read. `status` is "200" or the name its failure is counted under."""

    status: str
    text: str = ""
    output_tokens: int = 0
    prompt_tokens: int = 0
    chunks: array[float] = field(default_factory=lambda: array("d"))
    """Monotonic seconds of each streamed chunk that carried output; empty when not streamed."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request before a dialect makes it bytes."""

    prompt: str
    max_tokens: int


class Dialect(Protocol):
    @property
    def streams(self) -> bool:
        """Whether replies come in chunks."""
        ...

    def path(self, model: str) -> str: ...

    def body(self, model: str, ask: Ask) -> dict[str, Any]: ...

    def read(self, reply: Reply) -> Outcome: ...


@dataclass(frozen=True)
class OpenAI:
    """Chat and text completions; vLLM's `ignore_eos` keeps answers at their full length."""

    chat: bool
    streams: bool
    ignore_eos: bool

    def path(self, model: str) -> str:
        return "/v1/chat/completions" if self.chat else "/v1/completions"

    def body(self, model: str, ask: Ask) -> dict[str, Any]:
        body: dict[str, Any] = {"model": model, "max_tokens": ask.max_tokens, "temperature": 0}
        if self.chat:
            body["messages"] = [{"role": "user", "content": ask.prompt}]
        else:
            body["prompt"] = ask.prompt
        if self.ignore_eos:
            body["ignore_eos"] = True
        if self.streams:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body

    def read(self, reply: Reply) -> Outcome:
        if reply.status != 200:
            return Outcome(str(reply.status))
        if self.streams:
            return _openai_stream(server_sent(reply.pieces), ended=DONE)
        answer = json.loads(reply.body)
        choice, usage = answer["choices"][0], answer["usage"]
        text = choice["message"]["content"] if self.chat else choice["text"]
        return Outcome("200", text or "", usage["completion_tokens"], usage["prompt_tokens"])


def _openai_stream(events: Iterable[Event], ended: bytes | None) -> Outcome:
    """`ended` is the datum without which the stream was cut short."""
    outcome = Outcome("truncated" if ended else "200")
    texts: list[str] = []
    for event in events:
        if event.data == ended:
            outcome.status = "200"
            continue
        datum = json.loads(event.data)
        if "error" in datum:
            return Outcome("stream error", "".join(texts))
        if choices := datum.get("choices"):
            outcome.chunks.append(event.at)
            delta = choices[0].get("delta") or {}
            texts.append(choices[0].get("text") or delta.get("content") or "")
        if usage := datum.get("usage"):
            outcome.output_tokens, outcome.prompt_tokens = usage["completion_tokens"], usage["prompt_tokens"]
    outcome.text = "".join(texts)
    outcome.output_tokens = outcome.output_tokens or len(outcome.chunks)
    return outcome


@dataclass(frozen=True)
class Embeddings:
    streams: bool = False

    def path(self, model: str) -> str:
        return "/v1/embeddings"

    def body(self, model: str, ask: Ask) -> dict[str, Any]:
        return {"model": model, "input": ask.prompt}

    def read(self, reply: Reply) -> Outcome:
        if reply.status != 200:
            return Outcome(str(reply.status))
        answer = json.loads(reply.body)
        width = len(answer["data"][0]["embedding"])
        return Outcome("200", f"{width} values", 0, answer["usage"]["prompt_tokens"])


@dataclass(frozen=True)
class SageMaker:
    """SageMaker Runtime with the body of its text-generation containers.

    `details` is asked for, because it alone says how many tokens an unary answer has.
    """

    streams: bool
    ignore_eos: bool

    def path(self, model: str) -> str:
        return f"/endpoints/{model}/invocations" + ("-response-stream" if self.streams else "")

    def body(self, model: str, ask: Ask) -> dict[str, Any]:
        parameters: dict[str, Any] = {"max_new_tokens": ask.max_tokens, "do_sample": False, "details": True}
        if self.ignore_eos:
            parameters["ignore_eos_token"] = True
        body: dict[str, Any] = {"inputs": ask.prompt, "parameters": parameters}
        return body | {"stream": True} if self.streams else body

    def read(self, reply: Reply) -> Outcome:
        if reply.status != 200:
            return Outcome(str(reply.status))
        if self.streams:
            return self._read_stream(reply)
        answer = json.loads(reply.body)
        first = answer[0] if isinstance(answer, list) else answer
        details = first.get("details") or {}
        return Outcome("200", first["generated_text"], int(details.get("generated_tokens", 0)))

    def _read_stream(self, reply: Reply) -> Outcome:
        parts: list[tuple[float, bytes]] = []
        for event in aws_events(reply.pieces):
            if event.kind != "PayloadPart":
                return Outcome(event.kind or "stream error")
            parts.append((event.at, event.data))
        events = list(server_sent(parts))
        if not events:
            text = b"".join(part for _, part in parts).decode()
            return Outcome("200", text, len(parts), 0, array("d", (at for at, _ in parts)))
        if any(b'"choices"' in event.data for event in events):
            return _openai_stream((event for event in events if event.data != DONE), ended=None)
        return _token_stream(events)


def _token_stream(events: Iterable[Event]) -> Outcome:
    """Text-generation-inference's stream: one `token` object per event."""
    outcome = Outcome("200")
    texts: list[str] = []
    for event in events:
        datum = json.loads(event.data)
        if "error" in datum:
            return Outcome("stream error", "".join(texts))
        if token := datum.get("token"):
            outcome.chunks.append(event.at)
            texts.append(token["text"])
    outcome.text, outcome.output_tokens = "".join(texts), len(outcome.chunks)
    return outcome


NAMES = ("openai-chat", "openai-completions", "openai-embeddings", "sagemaker", "sagemaker-stream")


def dialect(name: str, *, stream: bool, ignore_eos: bool) -> Dialect:
    """The dialect of that name; `sagemaker-stream` is `sagemaker` with `stream` set."""
    match name:
        case "openai-chat" | "openai-completions":
            return OpenAI(name == "openai-chat", stream, ignore_eos)
        case "openai-embeddings":
            return Embeddings()
        case "sagemaker" | "sagemaker-stream":
            return SageMaker(stream or name == "sagemaker-stream", ignore_eos)
    raise ValueError(f"no dialect {name!r}; there are {', '.join(NAMES)}")


def read(spoken: Dialect, reply: Reply) -> Outcome:
    """`spoken.read`, with an answer that is not what the dialect says counted as "unreadable"."""
    try:
        return spoken.read(reply)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return Outcome("unreadable")
