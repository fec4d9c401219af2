"""What a replica does about the adapters that it should hold; the engine is played."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from server.errors import BadRequest
from server.replicas.adapters import RETRY_S, Adapters, NoLoader
from server.replicas.artifacts import Artifacts
from server.replicas.lora_shapes import check, check_numbers
from server.replicas.vllm_adapters import WEIGHTS, VllmAdapters
from tests.fixtures.lora import BASE, adapter


class Engine:
    """Takes what is not called `broken`, and notes what it was told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def load(self, name: str, folder: Path) -> None:
        self.calls.append(f"load {name} {folder.name}")
        if name == "broken":
            raise BadRequest("wrong shapes")

    async def unload(self, name: str) -> None:
        self.calls.append(f"unload {name}")


@pytest.fixture
def held(tmp_path: Path) -> tuple[Adapters, list[float]]:
    now = [0.0]
    return Adapters(Artifacts(tmp_path / "cache", None), lambda: now[0]), now  # type: ignore[arg-type]


def wanted(tmp_path: Path, version: int = 1, *names: str) -> Mapping[str, Any]:
    return {name: {"url": str(tmp_path / f"{name}{version}"), "version": version} for name in names}


async def test_what_is_wanted_is_held(tmp_path: Path, held: tuple[Adapters, list[float]]) -> None:
    adapters, _ = held
    engine, names = Engine(), adapters.names
    first = wanted(tmp_path, 1, "a", "b")
    assert adapters.lacks(first)
    await adapters.hold(engine, first)
    assert not adapters.lacks(first)
    assert set(names) == {"a", "b"}
    await adapters.hold(engine, {**wanted(tmp_path, 2, "a")})
    assert set(names) == {"a"}
    assert engine.calls == ["load a a1", "load b b1", "unload b", "load a a2"]
    assert adapters.to_wire() == {"a": {"version": 2, "error": ""}}


async def test_what_cannot_be_loaded_is_told_and_tried_again(
    tmp_path: Path, held: tuple[Adapters, list[float]]
) -> None:
    adapters, now = held
    engine, both = Engine(), wanted(tmp_path, 1, "broken", "a")
    await adapters.hold(engine, both)
    assert adapters.to_wire()["broken"] == {"version": 1, "error": "wrong shapes"}
    assert set(adapters.names) == {"a"}
    now[0] = RETRY_S - 1
    assert not adapters.lacks(both)
    now[0] = RETRY_S + 1
    assert adapters.lacks(both)
    await adapters.hold(engine, both)
    assert engine.calls.count("load broken broken1") == 2


async def test_an_engine_without_adapters_says_why(tmp_path: Path, held: tuple[Adapters, list[float]]) -> None:
    adapters, _ = held
    await adapters.hold(NoLoader("no LoRA"), wanted(tmp_path, 1, "a"))
    assert adapters.to_wire() == {"a": {"version": 1, "error": "no LoRA"}}


def test_an_adapter_of_another_model_is_told_by_its_shapes(tmp_path: Path) -> None:
    check(adapter(tmp_path / "right", seed=1) / WEIGHTS, BASE)
    with pytest.raises(BadRequest, match="q_proj is 8 x 200, and the model's weight is 384 x 384"):
        check(adapter(tmp_path / "wrong", seed=1, hidden=200) / WEIGHTS, BASE)
    check_numbers(tmp_path / "right" / WEIGHTS)
    with pytest.raises(BadRequest, match="not finite"):
        check_numbers(adapter(tmp_path / "infinite", seed=1, strength=float("inf")) / WEIGHTS)
    (tmp_path / "torn").write_bytes(b"{}")
    with pytest.raises(BadRequest, match="torn cannot be read"):
        check(tmp_path / "torn", BASE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "adapter_config.json").unlink(), "has no adapter_config.json"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": "IA3"}'), "not of a LoRA"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors"),
    ],
    ids=["no configuration", "no JSON", "another kind", "no weights"],
)
async def test_what_is_no_lora_does_not_reach_the_engine(tmp_path: Path, change: Any, words: str) -> None:
    folder = adapter(tmp_path / "a", seed=1)
    change(folder)
    with pytest.raises(BadRequest, match=words):
        await VllmAdapters(None, type("Models", (), {"lora_requests": {}})()).load("a", folder)
