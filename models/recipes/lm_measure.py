"""Measures of a causal language model: bits per byte of text it was not trained on, and completions."""

import math
from collections.abc import Iterable, Sequence

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from models.recipes.lm_format import CONTEXT, START
from models.recipes.stdlib_corpus import SourceFile

SMALL_HELD_OUT = ("copyreg.py", "sched.py", "secrets.py", "tkinter/dialog.py", "token.py")
"""A few short held-out files, enough to recognise the published model in seconds."""


def small_held_out(files: Iterable[SourceFile]) -> list[str]:
    """The texts of those of `files` that are in `SMALL_HELD_OUT`."""
    return [file.text for file in files if file.path in SMALL_HELD_OUT]


@torch.no_grad()
def bits_per_byte(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], window: int = CONTEXT
) -> float:
    """Mean cost of `texts` in bits per UTF-8 byte; each is read in windows of `window` tokens.

    Windows do not overlap, so the first token of a later window is predicted from one token only.
    """
    nats = sum(_nats(model, tokenizer, text, window) for text in texts)
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


def _nats(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, text: str, window: int) -> float:
    ids = torch.tensor(tokenizer.encode(START + text, add_special_tokens=False))
    total = 0.0
    for start in range(0, len(ids) - 1, window):
        piece = ids[start : start + window + 1]
        logits = model(input_ids=piece[None, :-1]).logits[0].float()
        total += torch.nn.functional.cross_entropy(logits, piece[1:], reduction="sum").item()
    return total


@torch.no_grad()
def complete(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, prompt: str, tokens: int = 64) -> str:
    """What the model writes after `prompt` when always taking the likeliest token, up to `tokens`."""
    ids = torch.tensor([tokenizer.encode(prompt, add_special_tokens=False)])
    output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)
    return str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))


def answer(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, question: str, tokens: int = 128) -> str:
    """The model's greedy reply to `question` through the chat template."""
    messages = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return complete(model, tokenizer, str(prompt), tokens)
