"""Embeddings on vLLM's pooling runner: the `EmbeddingEngine` face of a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from server.errors import HearthError, ModelFailed
from server.replicas.llm import as_hearth_error


class VllmEmbedding:
    """`EmbeddingEngine` on an `AsyncLLM`; the engine batches concurrent texts itself."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.max_model_len: int = engine.model_config.max_model_len

    async def embed(self, texts: Sequence[str], request_id: str) -> list[list[float]]:
        """Vectors as the model's own pooling configuration makes and normalises them."""
        tasks = [asyncio.ensure_future(self._one(text, f"{request_id}-{i}")) for i, text in enumerate(texts)]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _one(self, text: str, request_id: str) -> list[float]:
        from vllm import PoolingParams
        from vllm.renderers.inputs.preprocess import parse_model_prompt
        from vllm.renderers.params import TokenizeParams

        try:
            parsed = parse_model_prompt(self.engine.model_config, text)
            params = TokenizeParams(max_total_tokens=self.max_model_len, max_total_tokens_param="max_model_len")
            (rendered,) = await self.engine.renderer.render_cmpl_async([parsed], params)
            async for output in self.engine.encode(rendered, PoolingParams(task="embed"), request_id):
                if output.finished:
                    return output.outputs.data.float().tolist()  # type: ignore[no-any-return]
        except HearthError:
            raise
        except Exception as error:
            raise as_hearth_error(error) from error
        raise ModelFailed("The engine ended without an embedding.")
