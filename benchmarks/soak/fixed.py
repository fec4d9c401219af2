"""The endpoints that stay throughout, and what they have to answer."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import httpx
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.crash.site import Site

LLM, EMBEDDING, VISION = "my-llm-endpoint", "my-embedding-endpoint", "my-vision-endpoint"
SLEEPY = "sleepy-endpoint"
READY_S = 300.0
REPLICAS = {LLM: 1, EMBEDDING: 1, VISION: 2}
"""Of the endpoints that never sleep."""


def config() -> dict[str, Any]:
    """The shipped endpoints, the vision model twice over, and one that sleeps after two idle seconds."""
    shipped = yaml.safe_load((Path(__file__).parents[2] / "hearth.yaml").read_text())["endpoints"]
    vision = shipped[VISION]
    count = {"min_replicas": REPLICAS[VISION], "max_replicas": REPLICAS[VISION]}
    fast = {"min_replicas": 0, "max_replicas": 1, "downscale_delay_s": 1.0, "idle_before_zero_s": 2.0}
    endpoints = {
        LLM: shipped[LLM],
        EMBEDDING: shipped[EMBEDDING],
        VISION: {**vision, "scaling": count},
        SLEEPY: {**vision, "scaling": fast},
    }
    return {"endpoints": endpoints, "default_endpoint": VISION}


def picture() -> tuple[bytes, str]:
    """A handwritten digit as PNG, and which it is."""
    data = load_digits()
    buffer = io.BytesIO()
    Image.fromarray((data.images[0] * (255 / 16)).round().astype("uint8")).save(buffer, "PNG")
    return buffer.getvalue(), str(data.target[0])


def await_ready(site: Site, within_s: float = READY_S) -> None:
    """Until every replica is there. Raises RuntimeError."""
    deadline = time.monotonic() + within_s
    seen: object = None
    while time.monotonic() < deadline:
        try:
            ready = [each["endpoint"] for each in site.replicas() if each["phase"] == "ready"]
        except (httpx.HTTPError, ValueError) as error:
            seen = error
        else:
            seen = {name: ready.count(name) for name in REPLICAS}
            if seen == REPLICAS:
                return
        time.sleep(0.5)
    raise RuntimeError(f"replicas: {seen}, not {REPLICAS}, after {within_s:.0f} s")
