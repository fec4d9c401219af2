"""Text generation on vLLM: the `TextEngine` face of a replica.

Stop strings are vLLM's to find: it ends each choice in the step that completes one, frees its memory and counts no
token after that. What the user sees of the text is ours (`kernels.stopping`): vLLM alone would keep back the length
of the longest stop string all the time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import structlog

from kernels.stopping import StopStrings
from server.dialects.engine import Generation, Step, Token
from server.errors import BadRequest, HearthError, ModelFailed, NotReady, PromptTooLong, Throttled, Unavailable
from server.replicas.vllm_adapters import VllmAdapters

log = structlog.get_logger(__name__)


class VllmText:
    """`TextEngine` on an `AsyncLLM`; prompts are plain text, no chat template is applied."""

    def __init__(self, engine: Any, adapters: VllmAdapters | None = None) -> None:
        self.engine = engine
        self._adapters = adapters
        self.max_model_len: int = engine.model_config.max_model_len
        self._special = frozenset(engine.get_tokenizer().all_special_ids)
        self._ends_hidden = _ends_hidden(engine)

    async def generate(self, prompt: str, parameters: Generation, request_id: str) -> AsyncIterator[Step]:
        """Steps as tokens are made; see `TextEngine.generate`."""
        try:
            rendered = await self._render(prompt, parameters)
            params = self._sampling(parameters, len(rendered["prompt_token_ids"]))
            stops = _Stops(parameters) if params.include_stop_str_in_output else None
            first = True
            adapted = self._adapted(parameters.adapter)
            async with aclosing(self.engine.generate(rendered, params, request_id, **adapted)) as outputs:
                async for output in outputs:
                    for choice in output.outputs:
                        step = self._step(output, choice, first and parameters.prompt_logprobs)
                        yield step if stops is None else stops.cut(step)
                    first = False
        except HearthError:
            raise
        except Exception as error:
            raise as_hearth_error(error) from error

    def _adapted(self, adapter: str) -> dict[str, Any]:
        """Raises NotReady for an adapter that went while the request came."""
        if not adapter:
            return {}
        found = None if self._adapters is None else self._adapters.request(adapter)
        if found is None:
            raise NotReady(f"Adapter {adapter} is not loaded on this copy; try again.")
        return {"lora_request": found}

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
            stop=sorted(p.stop, key=len, reverse=True),  # of those that end together, the first one wins
            include_stop_str_in_output=bool(p.stop) and self._ends_hidden,  # text at once; `_Stops` cuts it
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


class _Stops:
    """Cuts the choices of one request at their stop strings."""

    def __init__(self, parameters: Generation) -> None:
        automaton = StopStrings(parameters.stop)
        self._streams = [automaton.stream() for _ in range(parameters.n)]

    def cut(self, step: Step) -> Step:
        """The step with what may be shown of its text. Its tokens stay: those of a stop string were made, too."""
        stream = self._streams[step.index]
        text, stop = stream.feed(step.text)
        if stop is not None:
            return replace(step, text=text, finish_reason="stop", stop_reason=stop)
        if step.finish_reason is not None:
            text += stream.flush()
        return replace(step, text=text)


def _ends_hidden(engine: Any) -> bool:
    """Whether the tokens that end a text have no text themselves, as special tokens have none.

    vLLM gives out a text up to the end of a stop string only together with the text of an end token. Where there is
    such a text, stop strings stay vLLM's to cut: the same answer, later than need be.
    """
    tokenizer = engine.get_tokenizer()
    listed = engine.model_config.try_get_generation_config().get("eos_token_id")
    ends = {*(listed if isinstance(listed, list) else [listed]), tokenizer.eos_token_id} - {None}
    shown = sorted(end for end in ends if tokenizer.decode([end], skip_special_tokens=True))
    if shown:
        log.warning("stop strings hold back text: these end tokens are not special", tokens=shown)
    return not shown


def as_hearth_error(error: Exception) -> HearthError:
    """An exception of vLLM's as the error that a client may see."""
    from vllm.exceptions import GracefulHTTPError, VLLMClientError
    from vllm.v1.engine.exceptions import EngineDeadError

    text = str(error)
    if isinstance(error, EngineDeadError):
        return Unavailable("The engine has ended; another one is started in its place. Try again.", retry_after=5)
    if isinstance(error, GracefulHTTPError) and error.http_status == 429:
        return Throttled(text)
    if isinstance(error, VLLMClientError | ValueError):
        too_long = "context length" in text or "max_model_len" in text or "maximum" in text.lower()
        return PromptTooLong(text, field="inputs") if too_long else BadRequest(text)
    return ModelFailed(f"The engine failed while answering: {type(error).__name__}")
