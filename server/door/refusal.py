"""The door's errors, in the dialect of the path that was asked for."""

from __future__ import annotations

from starlette.responses import Response

from server.dialects.errors import openai_error, runtime_error
from server.errors import HearthError


def refusal(error: HearthError, path: str, request_id: str) -> Response:
    """AWS's shape for SageMaker Runtime's paths, OpenAI's everywhere else."""
    if path.startswith("/endpoints/") and "/openai/" not in path:
        return runtime_error(error, request_id)
    response = openai_error(error)
    if request_id:
        response.headers["x-request-id"] = request_id
    return response
