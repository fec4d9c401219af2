"""LoRA adapters on vLLM: loaded into the running engine, and known to its OpenAI application by their names."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from server.errors import BadRequest
from server.replicas import lora_shapes

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
"""PEFT's file; its older `.bin` is a pickle, and loading one could run code."""


class VllmAdapters:
    """A `Loader` on an `AsyncLLM`. `models`: vLLM's `OpenAIServingModels`, by which both its application and
    `VllmText` know an adapter."""

    def __init__(self, engine: Any, models: Any) -> None:
        self._engine = engine
        self._models = models
        self._last = 0

    def request(self, name: str) -> Any:
        """The engine's own description of an adapter (`LoRARequest`); None for one that is not there."""
        return self._models.lora_requests.get(name)

    async def load(self, name: str, folder: Path) -> None:
        """See `Loader.load`. Raises BadRequest: what cannot be loaded is not PEFT's, or not of this model."""
        from vllm.lora.request import LoRARequest

        await asyncio.to_thread(self._check, folder)
        present = self.request(name)
        if present is None:
            self._last += 1
        number = self._last if present is None else present.lora_int_id
        try:
            await self._engine.add_lora(LoRARequest(name, number, str(folder), load_inplace=present is not None))
        except Exception as error:
            # It may have got as far as vLLM's list before its shapes were found not to fit.
            await self._engine.remove_lora(number)
            self._models.lora_requests.pop(name, None)
            raise BadRequest(f"the adapter cannot be loaded: {_words(error)}", field="artifactUrl") from error
        # Without `load_inplace`, by which the engine would load it again for every step.
        self._models.lora_requests[name] = LoRARequest(name, number, str(folder))

    def _check(self, folder: Path) -> None:
        _check_configuration(folder)
        lora_shapes.check(folder / WEIGHTS, _folder(self._engine.model_config.model))
        lora_shapes.check_numbers(folder / WEIGHTS)

    async def unload(self, name: str) -> None:
        present = self._models.lora_requests.pop(name, None)
        if present is not None:
            await self._engine.remove_lora(present.lora_int_id)


def _folder(model: str) -> Path:
    """Where the engine has the base's weights from: a folder, or what was downloaded of a hub's model."""
    from huggingface_hub import snapshot_download

    return Path(model) if Path(model).is_dir() else Path(snapshot_download(model, local_files_only=True))


def _check_configuration(folder: Path) -> None:
    """Raises BadRequest for what is not PEFT's folder of a LoRA adapter."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except FileNotFoundError:
        raise BadRequest(f"the adapter has no {CONFIG}", field="artifactUrl") from None
    except ValueError as error:
        raise BadRequest(f"{CONFIG} is not JSON: {error}", field="artifactUrl") from None
    if not isinstance(config, dict) or config.get("peft_type", "LORA") != "LORA":
        raise BadRequest(f"{CONFIG} is not of a LoRA adapter", field="artifactUrl")
    if not (folder / WEIGHTS).is_file():
        raise BadRequest(f"the adapter has no {WEIGHTS}", field="artifactUrl")


def _words(error: Exception) -> str:
    """Without the engine's own words around the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
