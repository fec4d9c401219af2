"""What an OpenAI body may ask for: every field that vLLM reads, and what is done about it.

The two tables are complete: a test compares it with vLLM's own request classes, so that a new field of a new
version is decided here before it can be used. A field in
neither FIELDS nor UNCHECKED is one that the engine ignores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.dialects.documents import json_type
from server.errors import BadRequest, NotFound
from server.guard.media import check_media
from server.guard.schemas import check_schemas, check_size
from server.spec import Limits

Check = Callable[[Any, str, Limits], None]

MAX_INT = 2**31 - 1
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_TOKEN_IDS = 65_536
MAX_TEXT_CHARS = 4096
MAX_MESSAGES = 4096


def integer(low: int, high: int | str) -> Check:
    """`high` is a number, or the field of `Limits` that has it."""

    def check(value: Any, field: str, limits: Limits) -> None:
        most = high if isinstance(high, int) else int(getattr(limits, high))
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= most:
            raise BadRequest(f"{field} must be an integer from {low} to {most}; {_shown(value)} was given", field=field)

    return check


def integer_or_flag(low: int, high: int | str) -> Check:
    bounded = integer(low, high)

    def check(value: Any, field: str, limits: Limits) -> None:
        if not isinstance(value, bool):
            bounded(value, field, limits)

    return check


def finite(value: Any, field: str, limits: Limits) -> None:
    """A number of sane size; its exact range is the engine's to check."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"{field} must be a number, not {json_type(value)}", field=field)
    if abs(value) > MAX_INT or not math.isfinite(value):
        raise BadRequest(f"{field} must be a finite number; {_shown(value)} was given", field=field)


def short_text(value: Any, field: str, limits: Limits) -> None:
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARS:
        raise BadRequest(f"{field} has {len(value)} characters; at most {MAX_TEXT_CHARS} are allowed", field=field)


def strings(most: int) -> Check:
    """A string or a list of them; what holds it back is the cost of looking for each after each token."""

    def check(value: Any, field: str, limits: Limits) -> None:
        listed = value if isinstance(value, list) else [value]
        if len(listed) > most or any(isinstance(each, str) and len(each) > MAX_STOP_CHARS for each in listed):
            raise BadRequest(f"{field} may have {most} strings of {MAX_STOP_CHARS} characters at most", field=field)

    return check


def items(most: int | str) -> Check:
    """A list or an object of at most so many entries."""

    def check(value: Any, field: str, limits: Limits) -> None:
        bound = most if isinstance(most, int) else int(getattr(limits, most))
        if isinstance(value, list | dict) and len(value) > bound:
            raise BadRequest(f"{field} has {len(value)} entries; at most {bound} are allowed", field=field)

    return check


def batch(value: Any, field: str, limits: Limits) -> None:
    """One text, one list of token ids, or a list of inputs; only the last is a batch."""
    if isinstance(value, list) and value and not isinstance(value[0], int):
        items("max_batch")(value, field, limits)
    check_media(value, field, limits)


def conversation(value: Any, field: str, limits: Limits) -> None:
    """A list of messages is one input, however long; other lists are batches."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        items(MAX_MESSAGES)(value, field, limits)
        check_media(value, field, limits)
    else:
        batch(value, field, limits)


def template_arguments(value: Any, field: str, limits: Limits) -> None:
    check_size(value, field, limits)
    if isinstance(value, dict) and (inner := value.keys() & {"chat_template", "tokenize", "tools", "messages"}):
        raise BadRequest(f"{field} may not hold {', '.join(sorted(inner))}", field=field)


def refused(why: str) -> Check:
    """For what no client of a shared endpoint may set. `null` and `false` always pass."""

    def check(value: Any, field: str, limits: Limits) -> None:
        if value is not False:
            raise BadRequest(f"{field} is not accepted: {why}", field=field)

    return check


_TEMPLATE = refused("templates run as programs; the model's own is used")
_TENSORS = refused("tensors from outside are not loaded")
_INTERNAL = refused("it belongs to the engine's own connections")
_GUIDED = refused("the engine ignores it; use response_format or structured_outputs")
_SIDEWAYS = refused("it would reorder or rename other clients' requests")
_PROCESSOR = refused("it could make one image as large as memory")

FIELDS: Mapping[str, Check] = {
    # how much is generated
    "n": integer(1, "max_choices"),
    "best_of": integer(1, "max_choices"),
    "max_tokens": integer(0, MAX_INT),
    "max_completion_tokens": integer(0, MAX_INT),
    "max_output_tokens": integer(0, MAX_INT),
    "min_tokens": integer(0, MAX_INT),
    "max_tool_calls": integer(0, 1024),
    "thinking_token_budget": integer(-1, MAX_INT),
    "logprobs": integer_or_flag(0, "max_logprobs"),
    "top_logprobs": integer(0, "max_logprobs"),
    "prompt_logprobs": integer(0, "max_logprobs"),
    "logprob_token_ids": items("max_logprobs"),
    "stream_interval": integer(1, 1024),
    # sampling
    "temperature": finite,
    "top_p": finite,
    "top_k": integer(-1, MAX_INT),
    "min_p": finite,
    "frequency_penalty": finite,
    "presence_penalty": finite,
    "repetition_penalty": finite,
    "length_penalty": finite,
    "seed": integer(-(2**63), 2**63 - 1),
    "logit_bias": items(1024),
    "stop": strings(MAX_STOPS),
    "stop_sequences": strings(MAX_STOPS),
    "stop_token_ids": items(256),
    "allowed_token_ids": items(MAX_TOKEN_IDS),
    "bad_words": strings(256),
    "use_beam_search": refused("beam search holds a slot per beam; use n"),
    "repetition_detection": refused("its cost per token has no bound"),
    # inputs
    "messages": conversation,
    "prompt": batch,
    "input": conversation,
    "system": conversation,
    "documents": batch,
    "queries": batch,
    "query": batch,
    "items": batch,
    "text_1": batch,
    "text_2": batch,
    "data_1": batch,
    "data_2": batch,
    "tokens": items(2**20),
    "instruction": short_text,
    "prompt_embeds": _TENSORS,
    "data": refused("plug-in inputs are not offered"),
    "previous_input_messages": refused("send the conversation as input"),
    # structure
    "response_format": check_schemas,
    "structured_outputs": check_schemas,
    "output_config": check_schemas,
    "text": check_schemas,
    "tools": check_schemas,
    "tool_choice": check_size,
    "guided_json": _GUIDED,
    "guided_regex": _GUIDED,
    "guided_choice": _GUIDED,
    "guided_grammar": _GUIDED,
    "guided_decoding_backend": _GUIDED,
    "guided_whitespace_pattern": _GUIDED,
    "structural_tag": _GUIDED,
    # templates and processors
    "chat_template": _TEMPLATE,
    "chat_template_kwargs": template_arguments,
    "mm_processor_kwargs": _PROCESSOR,
    "media_io_kwargs": _PROCESSOR,
    "mm_payload": _INTERNAL,
    "return_mm_kwargs": _INTERNAL,
    # the engine's inside
    "kv_transfer_params": _INTERNAL,
    "ec_transfer_params": _INTERNAL,
    "vllm_xargs": _INTERNAL,
    "routed_experts_prompt_start": _INTERNAL,
    "priority": _SIDEWAYS,
    "request_id": _SIDEWAYS,
    "session_id": _SIDEWAYS,
    "background": refused("an answer lives no longer than its request"),
    # lengths, labels and the rest
    "truncate_prompt_tokens": integer(-1, MAX_INT),
    "max_tokens_per_query": integer(0, MAX_INT),
    "max_tokens_per_doc": integer(0, MAX_INT),
    "dimensions": integer(1, 65_536),
    "top_n": integer(0, MAX_INT),
    "user": short_text,
    "cache_salt": short_text,
    "prompt_cache_key": short_text,
    "previous_response_id": short_text,
    "metadata": check_size,
    "stream_options": check_size,
    "reasoning": check_size,
    "thinking": check_size,
    "include": items(64),
}  # fmt: skip

UNCHECKED = frozenset(
    "model stream echo store service_tier truncation truncation_side padding parallel_tool_calls "
    "include_reasoning reasoning_effort include_stop_str_in_output ignore_eos skip_special_tokens "
    "spaces_between_special_tokens add_generation_prompt continue_final_message add_special_tokens "
    "return_tokens_as_token_ids return_token_ids return_token_offsets return_token_strs return_prompt_text "
    "enable_response_messages encoding_format embed_dtype endianness use_activation task "
    "early_stopping watermarking suffix instructions".split()
)
"""Flags, enums, names and plain text, which the engine checks itself."""


def check_document(document: Mapping[str, Any], limits: Limits) -> None:
    """Raises BadRequest that names the first field out of bounds."""
    for name, value in document.items():
        if value is not None and (check := FIELDS.get(name)):
            check(value, name, limits)
    prompts, choices = document.get("prompt"), document.get("n") or 1
    if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
        total = len(prompts) * int(choices)
        if total > limits.max_batch:
            raise BadRequest(f"prompt and n ask for {total} answers; at most {limits.max_batch} fit", field="n")


def check_model(document: Mapping[str, Any], names: Sequence[str]) -> None:
    """`model` must be a name of the endpoint's; a body without it means the endpoint it was sent to."""
    model = document.get("model")
    if model is not None and model not in names:
        shown = model[:100] if isinstance(model, str) else json_type(model)
        raise NotFound(f"The model {shown} does not exist; this endpoint serves {', '.join(names)}.", field="model")


def _shown(value: Any) -> str:
    return json_type(value) if isinstance(value, str | list | dict) else str(value).lower()[:40]
