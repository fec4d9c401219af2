"""`kill -9` of what serves the endpoints that stay: replicas, engines, Ray's own processes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable

import httpx
import psutil

from benchmarks.crash.faults import BACK_S, Faults
from benchmarks.crash.site import Site, await_other, kill
from benchmarks.soak.fixed import EMBEDDING, LLM, REPLICAS, VISION, await_ready

SPARE_S = 3.0
"""How long an endpoint that has another replica may notice that one is gone."""
PAUSE_S = 5.0
LOOK_S = 0.2


class Strikes:
    """One after another on a thread while it is entered; `raylet` is for a moment when nothing else is killed."""

    def __init__(self, site: Site, faults: Faults, seed: int) -> None:
        self._site = site
        self._faults = faults
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Strikes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        kinds: list[Callable[[], None]] = [
            lambda: self._replica(VISION), lambda: self._engine(LLM), self._gcs,
            lambda: self._replica(EMBEDDING), lambda: self._replica(VISION), lambda: self._replica(LLM),
        ]  # fmt: skip
        while not self._stop.is_set():
            for strike in self._chance.sample(kinds, len(kinds)):
                if self._stop.wait(PAUSE_S):
                    return
                strike()

    def _replica(self, endpoint: str) -> None:
        if (victim := self._chosen(endpoint)) is not None:
            self._take("replica", endpoint, victim, victim)

    def _engine(self, endpoint: str) -> None:
        if (replica := self._chosen(endpoint)) is not None:
            with contextlib.suppress(KeyError, psutil.Error):
                self._take("engine", endpoint, self._site.engine(replica).pid, replica)

    def _chosen(self, endpoint: str) -> int | None:
        with contextlib.suppress(httpx.HTTPError, ValueError):
            ready = [each["pid"] for each in self._site.replicas() if _is(each, endpoint)]
            return self._chance.choice(sorted(ready)) if ready else None
        return None

    def _take(self, part: str, endpoint: str, victim: int, replica: int) -> None:
        """Kills `victim`, and waits for another replica in the place of `replica`."""
        began = time.monotonic()
        with self._faults.away(part, endpoint):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                self._faults.done.kills[f"{endpoint}'s {part}"] += 1
            if REPLICAS[endpoint] > 1:
                time.sleep(SPARE_S)
            else:
                self._await_other(endpoint, replica, began)
        self._await_other(endpoint, replica, began)

    def _await_other(self, endpoint: str, gone: int, began: float) -> None:
        while time.monotonic() < began + 3 * BACK_S:
            with contextlib.suppress(httpx.HTTPError, ValueError):
                ready = [each["pid"] for each in self._site.replicas() if _is(each, endpoint)]
                if len(ready) == REPLICAS[endpoint] and gone not in ready:
                    return
            time.sleep(LOOK_S)
        self._faults.done.late.append(f"{endpoint}'s replica")

    def _gcs(self) -> None:
        self._of_ray("gcs", "gcs_server")

    def raylet(self) -> None:
        """All of Ray's workers end with it. Returns when every replica is there again. Raises RuntimeError."""
        with self._faults.away("raylet"):
            self._of_ray("raylet", "raylet/raylet")
            await_ready(self._site)

    def _of_ray(self, part: str, name: str) -> None:
        def find() -> psutil.Process:
            return self._site.of_ray(name)

        with self._faults.away(part), contextlib.suppress(KeyError, psutil.Error):
            victim = find()
            kill(victim)
            self._faults.done.kills[part] += 1
            if not await_other(find, victim.pid, 2 * BACK_S):
                self._faults.done.late.append(part)


def _is(replica: dict[str, object], endpoint: str) -> bool:
    return (replica["endpoint"], replica["phase"]) == (endpoint, "ready")
