"""A customer's `inference.py`: the contract's functions, its own process, and what a crash or a hang costs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from server.deathsig import die_with_parent
from server.dialects.engine import Invocation
from server.errors import BadRequest, ModelFailed
from server.replicas import runtimes
from server.replicas.handler import engine as engines
from server.replicas.listener import Listener
from server.spec import Limits, VariantSpec
from tests.fixtures.brought import Client, artifacts, client_of, invoke

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"


def variant(folder: Path, code: str, *, name: str = "code/inference.py", **more: Any) -> VariantSpec:
    """A model folder that holds `code`."""
    file = folder / "model" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(code))
    return VariantSpec(model=str(folder / "model"), **more)


FOUR = """
    import json, os
    from pathlib import Path

    def model_fn(model_dir):
        return json.loads((Path(model_dir) / "weights.json").read_text())

    def input_fn(body, content_type):
        assert isinstance(body, bytes), type(body)
        return content_type, [float(word) for word in body.decode().split()]

    def predict_fn(data, model):
        return {"type": data[0], "sum": sum(data[1]) * model["factor"], "dir": os.environ["SM_MODEL_DIR"]}

    def output_fn(prediction, accept):
        return json.dumps({**prediction, "accept": accept}), "application/vnd.mine+json"
"""


async def test_all_four_functions(tmp_path: Path) -> None:
    spec = variant(tmp_path, FOUR)
    (tmp_path / "model" / "weights.json").write_text('{"factor": 2}')
    async with client_of(spec, tmp_path) as client:
        answer = await invoke(client, "1 2.5", "text/plain; charset=utf-8", "text/html, */*")
        assert answer.headers["content-type"] == "application/vnd.mine+json"
        assert answer.json() == {
            "type": "text/plain; charset=utf-8", "sum": 7.0, "dir": str(tmp_path / "model"), "accept": "text/html, */*"
        }  # fmt: skip


async def test_one_transform_function_with_the_context(tmp_path: Path) -> None:
    spec = variant(
        tmp_path,
        """
        def model_fn(model_dir, context):
            return context.system_properties["model_dir"]

        def transform_fn(model, body, content_type, accept, context):
            assert isinstance(body, str)
            custom = context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
            context.set_response_content_type(0, "text/plain")
            return f"{model} {body} {content_type} {accept} {custom}"
        """,
    )
    async with client_of(spec, tmp_path) as client:
        answer = await client.post(
            "/endpoints/m/invocations",
            content="{}",
            headers={"content-type": JSON, "accept": "", "X-Amzn-SageMaker-Custom-Attributes": "trace=1"},
        )
        assert answer.text == f"{tmp_path / 'model'} {{}} {JSON} {JSON} trace=1"
        assert answer.headers["content-type"] == "text/plain"
        assert answer.headers["x-amzn-invoked-production-variant"] == "AllTraffic"


MODEL_ONLY = """
    class Model:
        def predict(self, rows):
            return rows.sum(axis=1)

    def model_fn(model_dir):
        return Model()
"""


async def test_the_functions_that_are_left_out_are_the_toolkits(tmp_path: Path) -> None:
    array = tmp_path / "array.npy"
    np.save(array, np.array([[1.0, 2.0], [3.0, 4.0]]))
    async with client_of(variant(tmp_path, MODEL_ONLY), tmp_path) as client:
        for body, content_type in ((b"[[1, 2], [3, 4]]", JSON), (b"1,2\n3,4\n", CSV), (array.read_bytes(), NPY)):
            assert (await invoke(client, body, content_type)).json() == [3, 7]
        assert (await invoke(client, "1,2\n3,4", CSV, CSV)).text.split() == ["3.0", "7.0"]
        assert (await invoke(client, "1,2", CSV, NPY)).content.startswith(b"\x93NUMPY")
        for body, content_type, accept, status in (
            (b"[[1, 2", JSON, "", 400), (b"a,b", CSV, "", 400), (b"x", NPY, "", 400), (b"\xff", CSV, "", 400),
            (b"x", "image/png", "", 415), (b"1,2", CSV, "image/png", 415),
        ):  # fmt: skip
            answer = await invoke(client, body, content_type, accept)
            assert answer.status_code == status, (body, answer.text)


async def test_where_code_may_lie(tmp_path: Path) -> None:
    top = variant(tmp_path / "top", MODEL_ONLY, name="inference.py")
    other = variant(tmp_path / "other", MODEL_ONLY, name="src/serve.py", env={
        "SAGEMAKER_PROGRAM": "serve.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/src"})  # fmt: skip
    for spec in (top, other):
        async with client_of(spec, tmp_path) as client:
            assert (await invoke(client, "1,2", CSV)).json() == [3]


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"SAGEMAKER_PROGRAM": "absent.py"}, "code/absent.py"),
        ({"SAGEMAKER_PROGRAM": "../../x.py"}, "outside"),
        ({"SAGEMAKER_SUBMIT_DIRECTORY": "s3://bucket/sourcedir.tar.gz"}, "bucket"),
        ({"SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/absent"}, "no folder"),
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "many"}, "option workers"),
    ],
)
async def test_wrong_places_and_numbers_are_named(env: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=said):
        await runtimes.start("m", variant(tmp_path, MODEL_ONLY, env=env), artifacts(tmp_path))


async def test_its_modules_go_before_ours(tmp_path: Path) -> None:
    """`server` and `kernels` are names of our own packages; a customer's code may have its own."""
    code = "import server, kernels, wire\ndef model_fn(d): return lambda x: [server.A, kernels.B, wire.C]"
    spec = variant(tmp_path, code)
    for name, text in (("server.py", "A = 1"), ("kernels.py", "B = 2"), ("wire.py", "C = 3")):
        (tmp_path / "model" / "code" / name).write_text(text)
    async with client_of(spec, tmp_path) as client:
        assert (await invoke(client, "[1]", JSON)).json() == [1, 2, 3]


ODD = """
    import json, os, signal, subprocess, sys, time

    def model_fn(model_dir):
        return os.getpid()

    def input_fn(body, content_type):
        return json.loads(body)

    class Mine(Exception):
        status_code = 422

    def predict_fn(data, model):
        if data == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if data == "exit":
            sys.exit(3)
        if data == "hang":
            child = subprocess.Popen(["sleep", "600"])
            with open(os.path.join(os.environ["SM_MODEL_DIR"], "child"), "w") as file:
                file.write(str(child.pid))
            time.sleep(600)
        if data == "slow":
            while not os.path.exists(os.path.join(os.environ["SM_MODEL_DIR"], "go-on")):
                time.sleep(0.01)
        if data == "raise":
            raise KeyError("no such thing")
        if data == "mine":
            raise Mine("the client did it")
        if data == "large":
            return "x" * 2_000_000
        if data == "odd":
            return {1, 2}
        print("hello from customer code")
        return model
"""


def pids_of(client: Client) -> list[int]:
    engine = client.runtime.engines.payload
    assert isinstance(engine, engines.HandlerEngine)
    return engine.pids


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - of what other processes do
            await asyncio.sleep(0.02)


async def ask(client: Client, what: str) -> httpx.Response:
    return await invoke(client, json.dumps(what), JSON)


async def test_errors_of_the_code_are_the_models(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with client_of(variant(tmp_path, ODD, engine={"max-answer-bytes": 1_000_000}), tmp_path) as client:
        pid = (await ask(client, "")).json()
        for what, status, said in (
            ("raise", 500, "KeyError: 'no such thing'"), ("mine", 422, "the client did it"),
            ("large", 500, "at most 1000000"), ("odd", 500, "not JSON serializable"),
        ):  # fmt: skip
            answer = await ask(client, what)
            assert answer.status_code == status, answer.text
            assert said in answer.json()["error"]
        assert (await ask(client, "")).json() == pid != os.getpid()
    written = capfd.readouterr()
    assert "hello from customer code" in written.out
    assert "Traceback" in written.err


@pytest.mark.parametrize(("what", "said"), [("crash", "killed by SIGSEGV"), ("exit", "exited with status 3")])
async def test_a_crash_costs_the_request_that_made_it(what: str, said: str, tmp_path: Path) -> None:
    async with client_of(variant(tmp_path, ODD), tmp_path) as client:
        first = (await ask(client, "")).json()
        crashed, *others = await asyncio.gather(ask(client, what), *(ask(client, "") for _ in range(10)))
        assert crashed.status_code == 500
        assert said in crashed.json()["error"]
        pids = {answer.json() for answer in others}
        assert len(pids) == 1
        assert first not in pids
        assert not psutil.pid_exists(first)
        assert client.runtime.alive()


async def test_a_hang_ends_with_its_worker_and_what_it_started(tmp_path: Path) -> None:
    spec = variant(tmp_path, ODD, env={"SAGEMAKER_MODEL_SERVER_TIMEOUT": "3", "SAGEMAKER_MODEL_SERVER_WORKERS": "2"})
    child = tmp_path / "model" / "child"
    async with client_of(spec, tmp_path) as client:
        pids = set(pids_of(client))
        hanging = asyncio.create_task(ask(client, "hang"))
        await eventually(child.exists)
        for _ in range(5):  # the other worker goes on
            assert (await ask(client, "")).status_code == 200
        answer = await hanging
        assert answer.status_code == 500
        assert "did not answer within 3 s" in answer.json()["error"]
        await eventually(lambda: len(pids.intersection(pids_of(client))) == 1)
        assert (await ask(client, "")).status_code == 200
    await eventually(lambda: not psutil.pid_exists(int(child.read_text())))


async def test_the_guards_deadline_answers_while_the_worker_finishes(tmp_path: Path) -> None:
    spec = variant(tmp_path, ODD, limits=Limits(request_timeout_s=2), engine={"timeout-s": 60})
    async with client_of(spec, tmp_path) as client:
        pids = pids_of(client)
        slow = await ask(client, "slow")
        assert slow.status_code == 500
        assert "did not finish within 2 s" in slow.json()["error"]
        (tmp_path / "model" / "go-on").touch()
        assert (await ask(client, "")).json() == pids[0]


async def test_a_worker_that_is_killed_while_idle_is_replaced_at_once(tmp_path: Path) -> None:
    async with client_of(variant(tmp_path, ODD), tmp_path) as client:
        pid = (await ask(client, "")).json()
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: pid not in pids_of(client))
        answer = await ask(client, "")
        assert answer.status_code == 200
        assert answer.json() != pid


async def test_a_replica_that_cannot_restart_its_code_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "BACKOFF_S", 0.01)
    spec = variant(
        tmp_path,
        """
        from pathlib import Path
        import os

        def model_fn(model_dir):
            marker = Path(model_dir) / "loaded"
            assert not marker.exists(), "only once"
            marker.touch()

        def predict_fn(data, model):
            os._exit(1)
        """,
    )
    async with client_of(spec, tmp_path) as client:
        failed, waiting = await asyncio.gather(invoke(client, "[1]", JSON), invoke(client, "[1]", JSON))
        assert failed.status_code == 500
        assert waiting.status_code == 503
        assert "lost 6 times" in waiting.json()["error"]
        assert not client.runtime.alive()
        assert (await invoke(client, "[1]", JSON)).status_code == 503


async def test_a_replica_whose_python_is_gone_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "BACKOFF_S", 0.01)
    async with client_of(variant(tmp_path, ODD), tmp_path) as client:
        engine = client.runtime.engines.payload
        assert isinstance(engine, engines.HandlerEngine)
        engine._launch = replace(engine._launch, python=tmp_path / "gone")
        await ask(client, "crash")
        assert (await ask(client, "")).status_code == 503
        assert not client.runtime.alive()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def model_fn(model_dir): raise OSError('no weights')", "OSError: no weights"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("def predict_fn(a, b): return a", "no model_fn"),
        ("def transform_fn(m, b, c, a): pass\ndef input_fn(b, c): pass", "must not define input_fn"),
        ("def model_fn(d:", "SyntaxError"),
        ("import sys; sys.exit(4)", "exited with status 4"),
        ("import time; time.sleep(600)", "did not return within 1 s"),
    ],
)
async def test_code_that_does_not_load_says_why(code: str, said: str, tmp_path: Path) -> None:
    within_s = 1 if "within 1 s" in said else 60
    with pytest.raises(ModelFailed, match=said):
        await runtimes.start("m", variant(tmp_path, code, engine={"start-timeout-s": within_s}), artifacts(tmp_path))


def test_workers_end_with_their_replica(tmp_path: Path) -> None:
    """Killed hard, the replica takes its workers along."""
    spec = variant(tmp_path, ODD)
    script = tmp_path / "replica.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import asyncio
            from pathlib import Path
            from server.replicas import runtimes
            from server.spec import VariantSpec
            from tests.fixtures.brought import artifacts

            async def main():
                spec = VariantSpec(model={spec.model!r})
                runtime = await runtimes.start("m", spec, artifacts(Path({str(tmp_path)!r})))
                print("worker", *runtime.engines.payload.pids, flush=True)
                await asyncio.sleep(60)

            asyncio.run(main())
            """
        )
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as replica:  # fmt: skip
        assert replica.stdout is not None
        said = next(line for line in replica.stdout if line.startswith("worker "))  # after its log
        worker = psutil.Process(int(said.split()[1]))
        replica.kill()
    gone, _ = psutil.wait_procs([worker], 60)
    assert gone


async def test_workers_live_on_a_replicas_own_loop(tmp_path: Path) -> None:
    """As in a replica: uvloop, on a thread of its own."""
    spec = variant(tmp_path, ODD)
    listener = Listener()
    started = await listener.call(lambda: runtimes.start("m", spec, artifacts(tmp_path)))
    engine = started.engines.payload
    assert isinstance(engine, engines.HandlerEngine)
    question = Invocation(b'""', JSON, "", {}, "r")
    answers = await asyncio.gather(*(listener.call(lambda: engine.invoke(question)) for _ in range(10)))
    bodies = [answer.body for answer in answers if isinstance(answer.body, bytes)]
    assert (len(bodies), {json.loads(body) for body in bodies}) == (10, set(engine.pids))
    with pytest.raises(ModelFailed, match="SIGSEGV"):
        await listener.call(lambda: engine.invoke(Invocation(b'"crash"', JSON, "", {}, "r")))
    assert (await listener.call(lambda: engine.invoke(question))).body
    (pid,) = engine.pids
    await listener.stop(started.stop)
    assert not psutil.pid_exists(pid)


async def test_nothing_of_hearths_own_reaches_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_API_KEY", "a-secret-of-ours")
    monkeypatch.setenv("PLAIN", "kept")
    spec = variant(
        tmp_path,
        "import os\ndef model_fn(d): return lambda x: dict(os.environ)\n",
        env={"MINE": "1"},
        engine={"workers": 1},
    )
    async with client_of(spec, tmp_path) as client:
        seen = (await invoke(client, "[1]", JSON)).json()
    assert "HEARTH_API_KEY" not in seen
    assert (seen["MINE"], seen["PLAIN"], seen["SM_NUM_CPUS"]) == ("1", "kept", "1")
