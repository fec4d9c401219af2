"""What a request weighs: the answers it asks an engine for, and what they cost its principal's turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.types import Scope

from server.dialects.documents import PARSED

BODY_UNIT = 4096
"""Bytes of a body that cost as much as one answer."""
MOST = 1024
"""Choices that count; more are refused further on."""
_INPUTS = ("inputs", "prompt", "input")
_BRIEF = ("/v1/models", "/v1/tokenize", "/v1/detokenize")
"""Paths that are answered without a place in the engine."""


def occupies(path: str, method: str) -> bool:
    """Whether a request to `path`, as the mounted application knows it, takes a place in the engine."""
    return method == "POST" and path not in _BRIEF


def answers(scope: Scope) -> int:
    """How many answers are asked for: inputs of a list, times the choices for each. 1 where the body does not say."""
    state = scope.get("state")
    document = None if state is None else state.get(PARSED)
    if document is None:
        return 1
    many = 1
    for name in _INPUTS:
        inputs = document.get(name)
        if type(inputs) is list and inputs and type(inputs[0]) in (str, list):
            many = len(inputs)
    return many * _choices(document)


def cost(answers: int, body: bytes) -> int:
    """One for each answer, and one for each full `BODY_UNIT` of the body: a long prompt takes its time too."""
    return answers + len(body) // BODY_UNIT


def _choices(document: Mapping[str, Any]) -> int:
    asked, parameters = document.get("n"), document.get("parameters")
    if type(parameters) is dict:
        asked = parameters.get("best_of", parameters.get("n"))
    return max(1, min(MOST, asked)) if type(asked) is int else 1
