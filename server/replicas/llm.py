"""Text generation on vLLM: the `TextEngine` face of a replica."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from server.dialects.engine import Generation, Step, Token
from server.errors import BadRequest, HearthError, ModelFailed, PromptTooLong, Throttled


class VllmText:
    """`TextEngine` on an `AsyncLLM`; prompts are plain text, no chat template is applied."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.max_model_len: int = engine.model_config.max_model_len
        self._special = frozenset(engine.get_tokenizer().all_special_ids)

    async def generate(self, prompt: str, parameters: Generation, request_id: str) -> AsyncIterator[Step]:
        """Steps as tokens are made; see `TextEngine.generate`."""
        try:
            rendered = await self._render(prompt, parameters)
            params = self._sampling(parameters, len(rendered["prompt_token_ids"]))
            first = True
            async with aclosing(self.engine.generate(rendered, params, request_id)) as outputs:
                async for output in outputs:
                    for choice in output.outputs:
                        yield self._step(output, choice, first and parameters.prompt_logprobs)
                    first = False
        except HearthError:
            raise
        except Exception as error:
            raise as_hearth_error(error) from error

    async def _render(self, prompt: str, parameters: Generation) -> Any:
        from vllm.renderers.inputs.preprocess import parse_model_prompt
        from vllm.renderers.params import TokenizeParams

        params = TokenizeParams(
            max_total_tokens=self.max_model_len,
            max_output_tokens=0,
            truncate_prompt_tokens=parameters.truncate,
            truncation_side="left" if parameters.truncate else None,
            max_total_tokens_param="max_model_len",
            max_output_tokens_param="max_new_tokens",
        )
        parsed = parse_model_prompt(self.engine.model_config, prompt)
        (rendered,) = await self.engine.renderer.render_cmpl_async([parsed], params)
        return rendered

    def _sampling(self, p: Generation, prompt_tokens: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        room = self.max_model_len - prompt_tokens
        if room < 1:
            raise PromptTooLong(
                f"The prompt has {prompt_tokens} tokens; with at least one new token that is more than "
                f"the model's context of {self.max_model_len}.",
                field="inputs",
            )
        return SamplingParams(
            n=p.n,
            max_tokens=min(p.max_tokens, room),
            temperature=p.temperature,
            top_p=p.top_p,
            top_k=p.top_k,
            min_p=p.min_p,
            stop=list(p.stop),
            repetition_penalty=p.repetition_penalty,
            presence_penalty=p.presence_penalty,
            frequency_penalty=p.frequency_penalty,
            seed=p.seed,
            logprobs=p.logprobs,
            prompt_logprobs=0 if p.prompt_logprobs else None,
            ignore_eos=p.ignore_eos,
            output_kind=RequestOutputKind.DELTA,
        )

    def _step(self, output: Any, choice: Any, with_prompt: bool) -> Step:
        prompt_ids = output.prompt_token_ids or []
        return Step(
            index=choice.index,
            text=choice.text,
            tokens=self._tokens(list(choice.token_ids), choice.logprobs),
            finish_reason=choice.finish_reason,
            stop_reason=choice.stop_reason,
            prompt_tokens=len(prompt_ids),
            prompt=self._tokens(prompt_ids, output.prompt_logprobs) if with_prompt else (),
        )

    def _tokens(self, ids: list[int], logprobs: Any) -> tuple[Token, ...]:
        if not logprobs:
            return tuple(Token(token, "", None, token in self._special) for token in ids)
        return tuple(self._token(token, row) for token, row in zip(ids, logprobs, strict=False))

    def _token(self, token: int, row: Any) -> Token:
        if row is None or token not in row:
            text = self.engine.get_tokenizer().decode([token])
            return Token(token, text, None, token in self._special)
        ranked = sorted(row.items(), key=lambda item: -item[1].logprob)
        top = tuple((other, entry.decoded_token or "", entry.logprob) for other, entry in ranked)
        chosen = row[token]
        return Token(token, chosen.decoded_token or "", chosen.logprob, token in self._special, top)


def as_hearth_error(error: Exception) -> HearthError:
    """An exception of vLLM's as the error that a client may see."""
    from vllm.exceptions import GracefulHTTPError, VLLMClientError

    text = str(error)
    if isinstance(error, GracefulHTTPError) and error.http_status == 429:
        return Throttled(text)
    if isinstance(error, VLLMClientError | ValueError):
        too_long = "context length" in text or "max_model_len" in text or "maximum" in text.lower()
        return PromptTooLong(text, field="inputs") if too_long else BadRequest(text)
    return ModelFailed(f"The engine failed while answering: {type(error).__name__}")
