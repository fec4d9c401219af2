"""A server that streams completions at a fixed pace: what two generators say of it differs by their own doing."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from benchmarks.arms import Arm

TTFT_S, ITL_S = 0.060, 0.008
"""Pace: near that of a small model on a small machine."""


async def completions(request: Request) -> Response:
    asked = await request.json()
    tokens = int(asked["max_tokens"])
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
    if asked.get("stream"):
        return StreamingResponse(_events(tokens, usage), media_type="text/event-stream")
    await asyncio.sleep(TTFT_S + ITL_S * (tokens - 1))
    return JSONResponse({"choices": [{"index": 0, "text": " a" * tokens}], "usage": usage})


async def _events(tokens: int, usage: dict[str, int]) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    due = clock() + TTFT_S
    for _ in range(tokens):
        await asyncio.sleep(due - clock())
        due += ITL_S
        yield f"data: {json.dumps({'choices': [{'index': 0, 'text': ' a'}]})}\n\n"
    yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


class PacedArm(Arm):
    label = "paced"

    def command(self) -> Sequence[str]:
        return [str(self.python), "-m", "benchmarks.paced", "--port", str(self.port)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    app = Starlette(routes=[Route("/v1/completions", completions, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port, log_level="warning")


if __name__ == "__main__":
    main()
