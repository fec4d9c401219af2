"""Sends copies of sampled requests to shadow replicas, in the background, and compares the answers.

The thread that answers clients does no more than put a record into a queue. All else happens on another thread's
event loop, so a shadow that hangs, refuses or dies costs production nothing but bounded memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import httpx
import structlog
from prometheus_client import Counter

from server.http_client import HttpClient
from server.nodes import NodeIdentity, calling, scheme
from server.shadow.compare import compared
from server.shadow.copies import ANSWER_BYTES, TOOK, Answered, Copy, Target
from server.shadow.pairs import Pair
from server.shadow.seal import HEADER, Seal
from server.shadow.tally import Tally

log = structlog.get_logger(__name__)

MOST_COPIES = 256
"""Copies that are held at once, waiting and under way; more are dropped."""
MOST_BYTES = 64 * 1024 * 1024
"""Of requests and answers that are held for them."""
UNDER_WAY = 32
"""Copies that are sent at once at most."""
RECENT = 64
"""So many requests back, the most that production had in flight bounds how many copies are sent at once: a shadow that
catches up with a queue is not to be compared at more load than production had."""
CONNECT_S = 2.0
MOST_SUBJECTS = 4
"""Whose tallies are kept; those of the oldest go."""
MOST_PAIRS = 32
"""Differing pairs that wait for a beat; more are counted and not kept."""
PAIRS_A_BEAT = 8

_COPIES = Counter(
    "hearth_shadow_copies", "Sampled requests by what became of their copies.",
    ("EndpointName", "VariantName", "outcome"),
)  # fmt: skip


class Copier:
    """One for a replica; made on the loop that sends. See `Copying` for what any thread may call."""

    def __init__(
        self, seal: Seal, endpoint: str, *, draw: Callable[[], float] = random.random, most: int = MOST_COPIES,
        most_bytes: int = MOST_BYTES, under_way: int = UNDER_WAY, nodes: NodeIdentity | None = None,
    ) -> None:  # fmt: skip
        """`nodes`: what this replica shows the shadow's; None: they talk plainly."""
        self._seal = seal
        self._endpoint = endpoint
        self._draw = draw
        self._most, self._most_bytes, self._under_way = most, most_bytes, under_way
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._target: Target | None = None
        self._waiting: deque[Copy] = deque()
        self._beside: deque[int] = deque(maxlen=RECENT)
        self.held = 0
        """Copies that wait or are under way."""
        self.held_bytes = 0
        self._tallies: dict[str, Tally] = {}
        self._pairs: deque[Pair] = deque()
        self._first_pair = 0
        """Number of the oldest pair that waits, of all that this replica found."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._comparing = asyncio.Lock()
        self._stopped = False
        limits = httpx.Limits(max_connections=under_way, max_keepalive_connections=under_way)
        self._scheme = scheme(nodes)
        self._client = HttpClient(limits=limits, timeout=None, trust_env=False, verify=calling(nodes))
        self._client.headers.clear()  # the shadow is to see what production saw

    def aim(self, target: Target | None) -> None:
        """Where copies go from now on; None: nowhere."""
        self._target = target

    def draw(self) -> Target | None:
        target = self._target
        return target if target is not None and self._draw() < target.share else None

    def offer(self, copy: Copy) -> None:
        with self._lock:
            self._count(copy, "sampled")
            if not copy.target.replicas:
                self._count(copy, "no_replica")
                return
            full = self.held >= self._most or self.held_bytes + copy.size > self._most_bytes
            if full or self._stopped:
                self._count(copy, "dropped")
                return
            self.held += 1
            self.held_bytes += copy.size
            self._waiting.append(copy)
            self._beside.append(copy.beside)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the replica ends
            self._loop.call_soon_threadsafe(self._go)

    def message(self) -> dict[str, Any]:
        """What the controller is told with a beat: totals since the replica's start, and some differing pairs."""
        with self._lock:
            tallies = {subject: tally.to_wire() for subject, tally in self._tallies.items()}
            first = self._first_pair
            pairs = [self._pairs[index] for index in range(min(PAIRS_A_BEAT, len(self._pairs)))]
        return {"tallies": tallies, "first": first, "pairs": [pair.to_wire() for pair in pairs]}

    def delivered(self, message: dict[str, Any]) -> None:
        """Forgets the pairs that somebody else keeps now."""
        with self._lock:
            while self._first_pair < message["first"] + len(message["pairs"]):
                self._pairs.popleft()
                self._first_pair += 1

    async def stop(self) -> None:
        """Copies that are not done are dropped."""
        with self._lock:
            self._stopped = True
            left, self._waiting = self._waiting, deque()
            for copy in left:
                self._release(copy)
                self._count(copy, "dropped")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def _go(self) -> None:
        while self._waiting:
            with self._lock:
                if len(self._tasks) >= min(self._under_way, max(self._beside)):
                    return
                copy = self._waiting.popleft()
            task = self._loop.create_task(self._see_to(copy))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._stopped:
            self._go()

    async def _see_to(self, copy: Copy) -> None:
        outcome = "failed"
        try:
            async with asyncio.timeout(copy.target.timeout_s):
                shadow = await self._sent(copy)
            if shadow.status == 429:
                outcome = "refused"
            else:
                await self._compare(copy, shadow)
                outcome = ""
        except TimeoutError:
            outcome = "timed_out"
        except asyncio.CancelledError:
            outcome = "dropped"
            raise
        except httpx.HTTPError as error:
            log.debug("copy failed", request_id=copy.request_id, error=type(error).__name__)
        except Exception as error:
            log.error("copy failed", request_id=copy.request_id, exc_info=error)
        finally:
            with self._lock:
                self._release(copy)
                if outcome:
                    self._count(copy, outcome)

    async def _sent(self, copy: Copy) -> Answered:
        """The shadow's answer, consumed whole, and the time of its model. Raises httpx.HTTPError."""
        target = copy.target
        host, port = target.replicas[int(self._draw() * len(target.replicas)) % len(target.replicas)]
        sealed = await asyncio.to_thread(self._seal.header, target.variant, copy.request_id, copy.path, copy.body)
        headers = [*copy.headers, (HEADER, sealed.encode())]
        url = f"{self._scheme}://[{host}]:{port}" if ":" in host else f"{self._scheme}://{host}:{port}"
        begun = time.perf_counter()
        parts: list[bytes] | None = []
        size = 0
        request = self._client.build_request(
            "POST", httpx.URL(url, raw_path=copy.path.encode("latin-1")), headers=headers, content=copy.body,
            timeout=httpx.Timeout(None, connect=CONNECT_S),
        )  # fmt: skip
        response = await self._client.send(request, stream=True)
        if (told := response.headers.get(TOOK.decode())) is not None:
            begun = time.perf_counter() - float(told)  # without the way there, which is none of the model's time
        try:
            async for part in response.aiter_raw():
                size += len(part)
                if size > ANSWER_BYTES:
                    parts = None
                elif parts is not None:
                    parts.append(part)
        finally:
            await response.aclose()
        body = None if parts is None else b"".join(parts)
        return Answered(response.status_code, tuple(response.headers.raw), body, time.perf_counter() - begun)

    async def _compare(self, copy: Copy, shadow: Answered) -> None:
        async with self._comparing:  # one at a time: it takes the interpreter from those who answer
            found = await asyncio.to_thread(compared, copy.answer, shadow)
        with self._lock:
            self._tally(copy.target.subject).add(found, copy.answer.seconds, shadow.seconds)
            _COPIES.labels(self._endpoint, copy.target.variant, "compared").inc()
            wanted = copy.target.keeps and found.differs and len(self._pairs) < MOST_PAIRS
            if wanted and (pair := Pair.of(copy, shadow)) is not None:
                self._pairs.append(pair)

    def _release(self, copy: Copy) -> None:
        self.held -= 1
        self.held_bytes -= copy.size

    def _count(self, copy: Copy, outcome: str) -> None:
        self._tally(copy.target.subject).count(outcome)
        _COPIES.labels(self._endpoint, copy.target.variant, outcome).inc()

    def _tally(self, subject: str) -> Tally:
        found = self._tallies.get(subject)
        if found is None:
            found = self._tallies[subject] = Tally()
            while len(self._tallies) > MOST_SUBJECTS:
                del self._tallies[next(iter(self._tallies))]
        return found
