"""A replica of the paced engine: `python -m benchmarks.paced_replica --port N`."""

from __future__ import annotations

import argparse

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from benchmarks.paced_prefix import Paced


def application() -> Starlette:
    engine = Paced()

    async def completions(request: Request) -> Response:
        asked = await request.json()
        return StreamingResponse(
            engine.events(asked["prompt"], int(asked["max_tokens"])), media_type="text/event-stream"
        )

    async def ping(_: Request) -> Response:
        return PlainTextResponse("")

    return Starlette(routes=[Route("/v1/completions", completions, methods=["POST"]), Route("/ping", ping)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(application(), host="127.0.0.1", port=parser.parse_args().port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
