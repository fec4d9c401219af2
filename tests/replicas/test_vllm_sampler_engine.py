"""Two engines on the shipped language model, one with Hearth's sampler and one without: what users may notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run(sampler: bool) -> tuple[dict[str, Any], str]:
    """(answers, log) of an engine."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")}
    environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    if sampler:
        environ["HEARTH_SAMPLER"] = "1"
    else:
        environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # one process starts faster than three
    command = ["nice", "-n", "5", sys.executable, "-m", "tests.fixtures.vllm_engine", *["seeded"] * sampler]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=False)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-4000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("ANSWERS "))
    return json.loads(line.removeprefix("ANSWERS ")), log


@pytest.fixture(scope="module")
def own() -> dict[str, Any]:
    answers, log = run(sampler=False)
    assert "sampling:" not in log
    return answers


@pytest.fixture(scope="module")
def ours() -> tuple[dict[str, Any], str]:
    return run(sampler=True)


def close(left: Any, right: Any) -> bool:
    """Equal, but for floats within 1e-4."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(close(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, float) and isinstance(right, float):
        return abs(left - right) < 1e-4
    return bool(left == right)


def test_the_log_says_that_hearth_samples(ours: tuple[dict[str, Any], str]) -> None:
    assert "sampling: Hearth's kernels, ready" in ours[1]
    assert "does not cover" not in ours[1]


def test_greedy_answers_are_vllm_s_token_for_token(own: dict[str, Any], ours: tuple[dict[str, Any], str]) -> None:
    assert ours[0]["greedy"] == own["greedy"]


def test_biases_masks_penalties_and_logprobs_are_vllm_s(own: dict[str, Any], ours: tuple[dict[str, Any], str]) -> None:
    for name, answer in own["edits"].items():
        assert close(ours[0]["edits"][name], answer), name
    edits = ours[0]["edits"]
    assert {300, 301} >= set(edits["logit_bias"][0][0][:2])
    assert "return" not in edits["bad_words"][1]
    assert set(edits["allowed"][0][0]) <= {300, 301, 302, 310}
    assert not {276, 300} & set(edits["min_tokens"][0][0][:12])
    assert all(len(row) in (3, 4) for row in edits["logprobs"][2])


def test_a_schema_holds(own: dict[str, Any], ours: tuple[dict[str, Any], str]) -> None:
    assert ours[0]["structured"] == own["structured"]
    for answer in [*ours[0]["structured"], ours[0]["beside"][3]]:
        document = json.loads(answer[1])
        assert document["a"] in (1, 20, 300)
        assert document["b"] in ("x", "y")


def test_a_seed_gives_the_same_tokens_again_alone_and_beside_others(ours: tuple[dict[str, Any], str]) -> None:
    first, second = ours[0]["alone"]
    assert first == second
    assert ours[0]["beside"][-1][0] == first


def test_choices_of_one_seed_differ(ours: tuple[dict[str, Any], str]) -> None:
    assert len({tuple(tokens) for tokens in ours[0]["choices"]}) == 3


def test_a_seeded_prompt_that_is_read_in_steps_does_not_end_the_engine(ours: tuple[dict[str, Any], str]) -> None:
    """vLLM 0.32 on a CPU dies of it with its own sampler."""
    first, second = ours[0]["long"]
    assert first == second
    assert len(first[0]) == 24
