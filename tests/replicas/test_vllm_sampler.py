"""Where the sampler is put into vLLM, where it is not, and what the log says."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from server.replicas import vllm_plugin, vllm_sampler, vllm_sampler_pins
from server.replicas.build import application
from server.replicas.plan import Home
from server.replicas.vllm_sampler_hook import after_import
from server.replicas.vllm_sampler_requests import Requests
from server.settings import SettingsError, load
from server.spec import EndpointSpec, VariantSpec
from tests.fixtures.vllm_runners import (
    newer,
    older,
    vllm_sampler_batch,
    vllm_sampler_device,
    vllm_sampler_start,
)


def copy_of(runner: ModuleType) -> Any:
    """A runner's module that may be changed."""
    copy = ModuleType(runner.__name__)
    vars(copy).update(vars(runner))
    return copy


def test_vllm_s_runners_are_as_expected() -> None:
    assert vllm_sampler_pins.missing(older) == []
    assert vllm_sampler_pins.missing(newer) == []


def test_both_runners_construct_hearth_s_samplers() -> None:
    old, new = copy_of(older), copy_of(newer)
    vllm_sampler.replace(old)
    vllm_sampler.replace(new)
    assert old.Sampler is vllm_sampler_batch.BatchSampler
    assert issubclass(old.Sampler, older.Sampler)
    assert new.Sampler is vllm_sampler_device.DeviceSampler
    assert issubclass(new.Sampler, newer.Sampler)


@pytest.mark.parametrize("runner", [older, newer])
@pytest.mark.parametrize("name", ["Sampler", "gone"])
def test_a_vllm_that_is_not_as_expected_keeps_its_own_and_the_log_says_what_is_missing(
    runner: ModuleType, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = copy_of(runner)
    if name == "gone":
        del changed.Sampler
    else:
        changed.Sampler = type("Sampler", (), {})
    kept = getattr(changed, "Sampler", None)
    with caplog.at_level(logging.WARNING, "vllm.hearth"):
        vllm_sampler.replace(changed)
    assert getattr(changed, "Sampler", None) is kept
    (record,) = caplog.records
    assert f"vLLM {vllm_sampler.version()} lacks {runner.__name__}.Sampler" in record.getMessage()


def test_a_changed_signature_or_attribute_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(older.Sampler, "forward", lambda self, logits, metadata: None)
    monkeypatch.setattr(newer.Sampler, "sample", lambda self, logits: None)
    assert "parameters of" in " ".join(vllm_sampler_pins.missing(older))
    assert "parameters of" in " ".join(vllm_sampler_pins.missing(newer))
    monkeypatch.setattr(newer.Sampler, "__init__", lambda self, vllm_config, max_num_reqs, vocab_size: None)
    assert "Sampler.penalties_state" in vllm_sampler_pins.missing(newer)


def test_a_module_is_changed_once_when_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "late_module.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    seen: list[int] = []
    after_import("late_module", lambda module: seen.append(module.value))
    assert seen == []
    assert importlib.util.find_spec("late_module") is not None
    module = importlib.import_module("late_module")
    assert seen == [1]
    assert sys.meta_path == finders
    assert type(module.__loader__).__name__ == type(module.__spec__.loader).__name__ == "SourceFileLoader"  # type: ignore[union-attr]
    after_import("late_module", lambda module: seen.append(2))
    assert seen == [1, 2]
    del sys.modules["late_module"]


@pytest.mark.parametrize(
    ("environ", "installed"),
    [
        ({}, []),
        ({"HEARTH_REPLICA_PID": "self"}, [True]),
        ({"HEARTH_REPLICA_PID": "self", "HEARTH_SAMPLER": "1"}, [True]),
        ({"HEARTH_REPLICA_PID": "self", "HEARTH_SAMPLER": "0"}, [False]),
        ({"HEARTH_SAMPLER": "1"}, [True]),
        ({"HEARTH_SAMPLER": "off"}, [False]),
    ],
    ids=str,
)
def test_only_a_replica_s_engine_or_who_asks_gets_the_sampler(
    environ: dict[str, str], installed: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    calls: list[bool] = []
    monkeypatch.setattr(vllm_sampler, "install", calls.append)
    for name in ("HEARTH_REPLICA_PID", "HEARTH_SAMPLER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value.replace("self", str(os.getpid())))
    vllm_plugin.register()
    assert calls == installed


def test_a_switch_that_is_neither_on_nor_off_stops_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_SAMPLER", "perhaps")
    with pytest.raises(SettingsError, match=r"HEARTH_SAMPLER.*perhaps"):
        vllm_plugin.register()


def test_off_leaves_vllm_s_own_and_says_so(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = older.Sampler
    for runner in (older, newer):
        monkeypatch.setitem(sys.modules, runner.__name__, runner)
    with caplog.at_level(logging.INFO, "vllm.hearth"):
        vllm_sampler.install(False)
    assert older.Sampler is kept
    assert ["vLLM's own sampler (HEARTH_SAMPLER is off)" in record.getMessage() for record in caplog.records] == [True]


def home(sampler: bool) -> Home:
    url = "http://127.0.0.1:1"
    return Home(url, "token", "127.0.0.1", "1", "r", 1.0, "info", "logs", sampler, "cache", "objects", None, "", "keys")


@pytest.mark.parametrize(
    ("sampler", "env", "expected"), [(True, {}, "1"), (False, {}, "0"), (True, {"HEARTH_SAMPLER": "0"}, "0")]
)
def test_the_setting_reaches_the_replica_and_a_variant_goes_over_it(
    sampler: bool, env: dict[str, str], expected: str
) -> None:
    variant = VariantSpec(model="m", env=env)
    app = application(EndpointSpec(name="e", variants=(variant,)), variant, home(sampler))
    options = app._bound_deployment._deployment_config, app._bound_deployment.ray_actor_options
    assert options[1]["runtime_env"]["env_vars"]["HEARTH_SAMPLER"] == expected


def test_the_setting_is_on_by_default_and_read_like_every_other() -> None:
    assert load(environ={}).sampler is True
    assert load(environ={"HEARTH_SAMPLER": "0"}).sampler is False


def engine(**options: Any) -> Any:
    size = options.pop("vocabulary", 50)
    model = SimpleNamespace(
        seed=0,
        use_fp64_gumbel=options.pop("use_fp64_gumbel", False),
        get_vocab_size=lambda: size,
    )
    return SimpleNamespace(model_config=model, speculative_config=options.pop("speculative_config", None))


@pytest.mark.parametrize(
    ("config", "processors", "pooling", "words"),
    [
        (engine(), [], False, "sampling: Hearth's kernels, ready"),
        (engine(), [], True, None),
        (engine(speculative_config=object()), [], False, "does not cover speculative decoding"),
        (engine(vocabulary=2**19 + 1), [], False, "does not cover vocabularies of more than 524288"),
        (engine(use_fp64_gumbel=True), [], False, "does not cover use_fp64_gumbel"),
        (engine(), [object()], False, "does not cover argmax-invariant custom logits processors"),
    ],
)
def test_the_engine_s_start_says_which_sampler_is_in_use(
    config: Any,
    processors: list[Any],
    pooling: bool,
    words: str | None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warmed: list[bool] = []
    monkeypatch.setattr("kernels.sampling.cpu.warm", lambda: warmed.append(True))
    made = SimpleNamespace(argmax_invariant=list(processors))
    build = vllm_sampler_start.with_requests(lambda *_: made)
    with caplog.at_level(logging.INFO, "vllm.hearth"):
        built = build(config, torch.device("cpu"), False, pooling, ())
    covered = words is not None and words.startswith("sampling: Hearth")
    assert [type(p) is Requests for p in built.argmax_invariant[len(processors) :]] == [True] * covered
    assert warmed == [True] * covered
    assert [words in record.getMessage() for record in caplog.records if words] == [True] * (words is not None)
