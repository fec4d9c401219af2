"""A real mother without imports, and commands that it forks: they must be as a Python of their own would be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from server.prefork import python
from server.prefork.starter import START

PATIENCE_S = 30.0
TELL = """import json, os, sys
print(json.dumps({
    "argv": sys.argv, "environ": dict(os.environ), "cwd": os.getcwd(), "path": sys.path[0], "name": __name__,
    "pid": os.getpid(), "parent": os.getppid(), "files": sorted(map(int, os.listdir("/proc/self/fd"))),
}), flush=True)
"""
SLEEP = TELL + "import time\ntime.sleep(600)\n"


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Home:
    """A run directory and its mother."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        self.command = str(python.write(folder))
        environ = {**os.environ, "SECRET_OF_THE_MOTHER": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        self.environ = {name: value for name, value in environ.items() if name != "SECRET_OF_THE_MOTHER"}
        with (folder / "log").open("wb") as log:
            self.mother = subprocess.Popen(python.mother(folder, ()), env=environ, stdout=log, stderr=log)
        eventually(lambda: (folder / python.SOCKET).exists())

    def script(self, text: str) -> str:
        path = self.folder / "default_worker.py"
        path.write_text(text)
        return str(path)

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None, **more: Any) -> subprocess.Popen[bytes]:
        return self.run([self.command, *arguments], env={**self.environ, **(environ or {})}, **more)

    def run(self, command: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
        self._started.append(subprocess.Popen(command, stdout=subprocess.PIPE, **more))
        return self._started[-1]

    def close(self) -> None:
        for process in (*self._started, self.mother):
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("home"))
    yield home
    home.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Home]:
    """For a test that kills the mother."""
    home = Home(tmp_path)
    yield home
    home.close()


def told(process: subprocess.Popen[bytes]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_fork_is_as_a_python_of_its_own(home: Home, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    process = home.start(home.script(TELL), "a", "b c", environ={"TENANT": "x"}, cwd=tmp_path / "elsewhere")
    seen = told(process)
    assert process.wait(PATIENCE_S) == 0
    assert (seen["argv"], seen["name"]) == ([str(home.folder / "default_worker.py"), "a", "b c"], "__main__")
    assert (seen["cwd"], seen["path"]) == (str(tmp_path / "elsewhere"), str(home.folder))
    assert seen["parent"] == home.mother.pid
    assert seen["environ"].pop(START) == "warm"
    assert "SECRET_OF_THE_MOTHER" not in seen["environ"]
    shell = {"_", "PWD", "OLDPWD", "SHLVL"}
    assert {k: v for k, v in seen["environ"].items() if k not in shell} == {
        k: v for k, v in {**home.environ, "TENANT": "x"}.items() if k not in shell
    }


def test_two_forks_share_no_environment(home: Home) -> None:
    script = home.script(TELL)
    first = told(home.start(script, environ={"TENANT_A": "secret"}))
    second = told(home.start(script, environ={"TENANT_B": "other"}))
    assert "TENANT_B" not in first["environ"]
    assert "TENANT_A" not in second["environ"]


@pytest.mark.parametrize(("ending", "status"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", -9), ("", 0)], ids=str)
def test_it_ends_as_the_fork_ended(home: Home, ending: str, status: int) -> None:
    assert home.start(home.script(f"{TELL}{ending}\n")).wait(PATIENCE_S) == status


def test_signals_reach_the_fork(home: Home) -> None:
    process = home.start(home.script(SLEEP))
    told(process)
    process.terminate()
    assert process.wait(PATIENCE_S) == -signal.SIGTERM


def test_a_killed_starter_takes_the_fork_with_it(home: Home) -> None:
    process = home.start(home.script(SLEEP))
    pid = told(process)["pid"]
    process.kill()
    eventually(lambda: gone(pid))


def test_a_killed_parent_takes_starter_and_fork_with_it(home: Home) -> None:
    script = home.script(SLEEP)
    code = f"import subprocess; subprocess.Popen([{home.command!r}, {script!r}]).wait()"
    parent = home.run([sys.executable, "-c", code], env=home.environ)
    pid = told(parent)["pid"]
    parent.kill()
    eventually(lambda: gone(pid))


def test_a_killed_mother_leaves_her_forks(own: Home) -> None:
    process = own.start(own.script(f"{TELL}sys.stdin.read()\n"), stdin=subprocess.PIPE)
    pid = told(process)["pid"]
    own.mother.kill()
    own.mother.wait()
    assert process.poll() is None
    assert not gone(pid)
    assert process.stdin is not None
    process.stdin.close()
    process.stdin = None
    eventually(lambda: gone(pid))
    assert process.wait(PATIENCE_S) == 1  # nobody could say how it ended


def test_without_a_mother_python_itself_runs(own: Home) -> None:
    own.mother.kill()
    own.mother.wait()
    process = own.start(own.script(TELL))
    seen = told(process)
    assert seen["environ"][START].startswith("cold: the mother process does not answer")
    assert seen["pid"] == process.pid


@pytest.mark.parametrize("name", ["OMP_PROC_BIND", "LD_LIBRARY_PATH_64", "PYTHONHASHSEED"])
def test_what_is_read_before_a_fork_declines_it(home: Home, name: str) -> None:
    process = home.start(home.script(TELL), environ={name: "1"})
    seen = told(process)
    assert seen["environ"][START] == f"cold: it has its own {name}"
    assert seen["pid"] == process.pid


def test_threads_are_set_where_libraries_were_loaded_before(home: Home) -> None:
    assert told(home.start(home.script(TELL), environ={"OMP_NUM_THREADS": "2"}))["environ"][START] == "warm"


def test_other_commands_are_pythons_own(home: Home) -> None:
    process = home.start("-c", TELL)
    seen = told(process)
    assert START not in seen["environ"]
    assert seen["pid"] == process.pid


def test_processes_of_multiprocessing_are_forked(home: Home, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        "import multiprocessing, os, sys\n"
        "def work(queue): queue.put((os.getpid(), os.getppid(), os.environ['HEARTH_START']))\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        f"    multiprocessing.set_executable({home.command!r})\n"
        "    queue = context.Queue()\n"
        "    process = context.Process(target=work, args=(queue,))\n"
        "    process.start()\n"
        "    print(*queue.get())\n"
        "    process.join()\n"
        "    print(process.exitcode)\n"
    )
    ran = subprocess.run([sys.executable, str(script)], env=home.environ, capture_output=True, text=True, check=True)
    (_, parent, start), exitcode = (line.split() for line in ran.stdout.splitlines())
    assert (int(parent), start, exitcode) == (home.mother.pid, "warm", ["0"])


def test_a_starter_that_sends_nonsense_does_not_end_the_mother(home: Home) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(home.folder / python.SOCKET))
        connection.sendall(b"\0\0\0\2hm")
    assert told(home.start(home.script(TELL)))["environ"][START] == "warm"
