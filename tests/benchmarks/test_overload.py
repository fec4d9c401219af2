from __future__ import annotations

import asyncio
import re

import pytest

from benchmarks.overload import probe
from benchmarks.target import Target
from tests.benchmarks.fake_server import Request, completion, response, serving


def test_overload_tells_accepted_from_refused() -> None:
    """A server of four places, 20 ms each, that refuses the fifth at once."""
    flying = 0

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal flying
        if flying == 4:
            writer.write(response(429, b"{}", "retry-after: 1"))
            return
        flying += 1
        await asyncio.sleep(0.02)
        flying -= 1
        writer.write(completion("hi", 4))

    with serving(answer) as server:
        text = probe(Target(server.url, "m", stream=False), None, 4, 1.5, 5.0, 4)
    rows = {row.split("|")[1].strip(): row.split("|") for row in text.splitlines() if row.startswith("| ")}
    offered, answered = (re.search(pattern, text) for pattern in (r"offered ([\d.]+)/s", r"capacity: ([\d.]+)"))
    assert offered is not None
    assert answered is not None
    assert float(offered[1]) == pytest.approx(5 * float(answered[1]), abs=0.5)
    assert rows["at capacity"][5].strip().startswith("0 of ")
    refused, _, asked = rows["5x overload"][5].partition(" of ")
    assert 0 < int(refused) < int(asked)
    assert "x unloaded" in text


def test_a_server_that_answers_nothing_is_said_so() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response(503, b"{}"))

    with serving(answer) as server, pytest.raises(RuntimeError, match="no request was answered"):
        probe(Target(server.url, "m", stream=False), None, 4, 0.2, 5.0, 2)
