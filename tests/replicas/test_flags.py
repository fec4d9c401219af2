"""Engine options become vLLM's flags; Hearth's own are refused by name."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from server.errors import BadRequest
from server.replicas.vllm_app import flags


def test_options_become_flags() -> None:
    options: dict[str, JsonValue] = {
        "max-model-len": 512,
        "enforce_eager": True,
        "enable-prefix-caching": False,
        "hf-overrides": {"a": 1},
    }
    assert flags(options) == [
        "--max-model-len", "512", "--enforce-eager", "--no-enable-prefix-caching", "--hf-overrides", '{"a": 1}',
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["port", "--port", "served_model_name", "api-key", "allowed-local-media-path"])
def test_what_hearth_sets_itself_is_refused(name: str) -> None:
    with pytest.raises(BadRequest, match="set by Hearth") as caught:
        flags({name: "x"})
    assert caught.value.field == f"engine.{name}"
