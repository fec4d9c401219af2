"""What encryption at rest costs: put and get of objects, encrypted and not, taking turns.

    python -m benchmarks.at_rest [--rounds 9] [--folder /var/tmp]

Each arm is an S3 endpoint in a process of its own, called by a real boto3 client on the same machine. The time of a
round is that of its puts or gets one after the other. Times are those of the best rounds, which other work on the
machine disturbed least; `median` is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import uvicorn
from botocore.config import Config

from server.objects.app import application
from server.settings import Settings
from server.store.migrate import migrate
from server.store.store import connect

SIZES: tuple[tuple[int, int], ...] = ((1024, 100), (64 * 1024, 60), (1024**2, 30), (16 * 1024**2, 4))
"""Bytes of an object, and how many of them a round puts and gets."""


@dataclass(frozen=True, slots=True)
class Row:
    call: str
    size: int
    plain_s: float
    encrypted_s: float
    ratio: float
    """Throughput encrypted to plain, of the best rounds."""
    median: float
    """The same, round by round."""


def serve(listener: socket.socket, settings: Settings) -> None:
    config = uvicorn.Config(application(settings), log_config=None, access_log=False, lifespan="off", ws="none")
    uvicorn.Server(config).run([listener])


class Arm:
    """One endpoint and its client."""

    def __init__(self, folder: Path, *, encrypt: bool) -> None:
        folder.mkdir()
        settings = Settings(state_dir=folder, encrypt=encrypt)
        engine = connect(settings.database)
        migrate(engine)
        engine.dispose()
        listener = socket.create_server(("127.0.0.1", 0))
        self._process = multiprocessing.get_context("fork").Process(target=serve, args=(listener, settings))
        self._process.start()
        config = Config(
            retries={"total_max_attempts": 1}, s3={"addressing_style": "path"},
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
        )  # fmt: skip
        self.s3: Any = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{listener.getsockname()[1]}", region_name="us-east-1",
            aws_access_key_id="any", aws_secret_access_key="any", config=config,
        )  # fmt: skip
        self.s3.create_bucket(Bucket="bench")

    def put(self, body: bytes, count: int) -> None:
        for number in range(count):
            self.s3.put_object(Bucket="bench", Key=f"{len(body)}/{number}", Body=body)

    def get(self, body: bytes, count: int) -> None:
        for number in range(count):
            got = self.s3.get_object(Bucket="bench", Key=f"{len(body)}/{number}")["Body"].read()
            assert len(got) == len(body)

    def close(self) -> None:
        self._process.terminate()
        self._process.join(10)


def compare(plain: Arm, encrypted: Arm, size: int, count: int, rounds: int) -> list[Row]:
    body = os.urandom(size)
    rows = []
    for call in ("put", "get"):
        first: list[float] = []
        second: list[float] = []
        for number in range(rounds + 1):
            arms = [(plain, first), (encrypted, second)]
            for arm, times in arms if number % 2 else reversed(arms):
                times.append(timed(getattr(arm, call), body, count) / count)
        ratios = [a / b for a, b in zip(first[1:], second[1:], strict=True)]
        best, other = min(first), min(second)
        rows.append(Row(call, size, best, other, best / other, statistics.median(ratios)))
    return rows


def timed(call: Callable[[bytes, int], None], body: bytes, count: int) -> float:
    began = time.perf_counter()
    call(body, count)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, default=None, help="where the objects are kept meanwhile")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        arms = [Arm(Path(folder) / name, encrypt=name == "encrypted") for name in ("plain", "encrypted")]
        print(f"| call | bytes | plain ms | encrypted ms | throughput encrypted / plain | median |\n{'| --- ' * 6}|")
        try:
            for size, count in SIZES:
                for row in compare(arms[0], arms[1], size, count, asked.rounds):
                    print(f"| {row.call} | {row.size:,} | {row.plain_s * 1e3:.2f} | {row.encrypted_s * 1e3:.2f} "
                          f"| {row.ratio:.2f} | {row.median:.2f} |", flush=True)  # fmt: skip
        finally:
            for arm in arms:
                arm.close()


if __name__ == "__main__":
    main()
