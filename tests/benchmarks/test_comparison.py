"""Ratios, the text made of them, and starting and stopping what is measured."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml

from benchmarks.arms import ARMS, HearthArm, RayArm, Setup, VllmArm, options
from benchmarks.comparison import section
from benchmarks.processes import Server
from benchmarks.ratios import order, paired
from benchmarks.results import replace_section
from benchmarks.serving import LOADS, build
from server.settings import load as load_settings


def test_the_ratio_of_known_rounds() -> None:
    ratio = paired([2.0, 3.0, 4.0, 10.0, 5.0], [1.0, 1.0, 2.0, 5.0, 2.0])
    assert ratio.median == pytest.approx(2.0)
    assert ratio.low == pytest.approx(2.0)
    assert ratio.median <= ratio.high <= 3.0
    assert paired([3.0], [2.0]).low == paired([3.0], [2.0]).high == pytest.approx(1.5)


def test_pairing_removes_what_a_round_does_to_both() -> None:
    """A machine that slows down fivefold between rounds leaves the ratio alone."""
    base = [100.0, 50.0, 20.0, 80.0, 30.0, 90.0, 25.0]
    ratio = paired([0.9 * value for value in base], base)
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((0.9, 0.9, 0.9))


@pytest.mark.parametrize(("ours", "base"), [([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0])])
def test_what_has_no_ratio_is_refused(ours: list[float], base: list[float]) -> None:
    with pytest.raises(ValueError, match=r"rounds|ratio"):
        paired(ours, base)


def test_rounds_go_forwards_and_backwards() -> None:
    assert order("AB", 3) == [["A", "B"], ["B", "A"], ["A", "B"]]


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    engine = {"max-model-len": 64, "enforce-eager": True, "async-scheduling": False}
    return Setup(tmp_path, engine, {"A": "1"}, tmp_path)


def test_all_arms_get_the_same_engine_flags(setup: Setup, tmp_path: Path) -> None:
    assert options(setup.engine) == ["--max-model-len", "64", "--enforce-eager"]
    assert list(VllmArm(setup).command())[-3:] == options(setup.engine)
    ray = list(RayArm(setup).command())
    assert json.loads(ray[ray.index("--engine") + 1])["max_model_len"] == 64
    command = list(HearthArm(setup).command())
    document = yaml.safe_load(Path(command[command.index("--config") + 1]).read_text())
    assert document["endpoints"]["bench"]["variants"][0]["engine"] == dict(setup.engine)


def test_hearths_own_settings_take_the_document(setup: Setup) -> None:
    command = list(HearthArm(setup, max_in_flight=9).command())
    settings = load_settings(Path(command[command.index("--config") + 1]), {})
    (endpoint,) = settings.endpoints
    assert (endpoint.name, endpoint.variants[0].limits.max_in_flight) == ("bench", 9)


def test_unknown_arms_are_refused_with_the_known_ones(setup: Setup) -> None:
    with pytest.raises(ValueError, match=", ".join(ARMS)):
        build(["tgi"], setup, gpu=False)


def test_a_section_says_medians_and_ratios(setup: Setup) -> None:
    arms = {"hearth": HearthArm(setup), "vllm": VllmArm(setup)}
    stream = str(LOADS[-1])
    figures = {"failed": 0.0, "client CPU": 0.1}
    table = {
        stream: {
            "hearth": [figures | {"chunks/s": value} for value in (95.0, 190.0, 97.0)],
            "vllm": [figures | {"chunks/s": value} for value in (100.0, 200.0, 100.0)],
        }
    }
    text = section(table, arms, {"hearth": 0.2, "vllm": 0.0}, "answers: all", 60.0)
    assert f"| {stream} | hearth | 97.0 |" in text
    assert f"| {stream} | 0.950 [0.950, 0.970] |" in text
    assert "hearth / vllm" in text
    assert "answers: all" in text


def test_a_section_of_the_page_is_replaced_and_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    replace_section(page, "One", "first")
    replace_section(page, "Two", "second")
    replace_section(page, "One", "again \\1")
    text = page.read_text()
    assert text.count("## One") == 1
    assert "first" not in text
    assert text.index("again \\1") < text.index("## Two") < text.index("second")


def test_stopping_a_server_ends_what_it_started(tmp_path: Path) -> None:
    """Also a grandchild in a session of its own that ignores SIGTERM, as Ray's processes may."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    parent = "import subprocess, sys; "
    parent += f"subprocess.Popen([sys.executable, '-c', {deaf!r}], start_new_session=True).wait()"
    server = Server([sys.executable, "-c", parent], tmp_path / "log", {}, tmp_path)
    until = time.monotonic() + 60
    while "up" not in server.log.read_text() and time.monotonic() < until:
        time.sleep(0.02)
    assert len(server.pids()) == 2
    server.signal(signal.SIGSTOP)
    server.signal(signal.SIGCONT)
    server.stop(grace_s=0.3)
    assert server.pids() == []


def test_a_server_that_ended_says_its_last_words(tmp_path: Path) -> None:
    server = Server([sys.executable, "-c", "raise SystemExit('port taken')"], tmp_path / "log", {}, tmp_path)
    until = time.monotonic() + 60
    while server.pids() and time.monotonic() < until:
        time.sleep(0.02)
    with pytest.raises(RuntimeError, match="port taken"):
        server.check()
