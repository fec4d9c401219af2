"""Decoded tokens/s of a vLLM engine on the CPU with this project's sampler and with vLLM's own.

The model has random weights, a vocabulary of 151936 and little else, so that sampling is what a step is about: an
upper bound of what the sampler alone gains. Its logits are normal with a deviation of about 3. Each engine is a
process of its own; they take turns, and HEARTH_SAMPLER says which sampler it has.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

VOCABULARY, HIDDEN, DEVIATION = 151936, 64, 3.0
BATCHES, TOKENS, ROUNDS = (8, 32), 20, 3
TURNS = ("0", "1", "1", "0")


def run() -> str:
    """Markdown table of both."""
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        taken: dict[str, list[dict[str, float]]] = {"0": [], "1": []}
        for sampler in TURNS:
            taken[sampler].append(_engine(folder, sampler))
    lines = [
        f"- V = {VOCABULARY}, hidden {HIDDEN}, 2 layers, random weights; temperature 0.8, top-p 0.9; "
        f"{TOKENS} tokens a request",
        "",
        "| B | vLLM's sampler, tokens/s | this one, tokens/s | times |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for batch in BATCHES:
        off, on = (statistics.median(each[str(batch)] for each in taken[sampler]) for sampler in ("0", "1"))
        lines.append(f"| {batch} | {off:.0f} | {on:.0f} | {on / off:.2f}x |")
    return "\n".join(lines)


def build(folder: Path) -> None:
    """A Llama with tied, random embeddings; the same weights each time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        dtype="bfloat16",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).to(torch.bfloat16)
        # The last norm gives hidden states a length of sqrt(HIDDEN).
        torch.nn.init.normal_(model.model.embed_tokens.weight, std=DEVIATION / HIDDEN**0.5)
    model.save_pretrained(folder)


def _engine(folder: str, sampler: str) -> dict[str, float]:
    environment = {**os.environ, "HEARTH_SAMPLER": sampler, "VLLM_CPU_KVCACHE_SPACE": "1"}
    environment.pop("LD_PRELOAD", None)
    answer = Path(folder) / "tokens_per_s.json"  # vLLM logs to both streams
    command = [sys.executable, "-m", "benchmarks.sampling_engine", folder, str(answer)]
    subprocess.run(command, env=environment, stdout=sys.stderr, check=True)
    found: dict[str, float] = json.loads(answer.read_text())
    return found


def measure(folder: str) -> dict[str, float]:
    """Tokens/s by batch size, the median of the rounds, in this process's engine."""
    from vllm import LLM, SamplingParams

    llm = LLM(
        folder,
        skip_tokenizer_init=True,
        enforce_eager=True,
        max_model_len=256,
        max_num_seqs=max(BATCHES),
        enable_prefix_caching=False,
    )

    def once(batch: int, turn: int) -> float:
        prompts: list[Any] = [{"prompt_token_ids": [turn * 100 + row + 1] * 16} for row in range(batch)]
        params = [
            SamplingParams(temperature=0.8, top_p=0.9, max_tokens=TOKENS, ignore_eos=True, detokenize=False)
            for _ in prompts
        ]
        start = perf_counter()
        llm.generate(prompts, params, use_tqdm=False)
        return batch * TOKENS / (perf_counter() - start)

    once(BATCHES[0], 0)
    return {str(batch): statistics.median(once(batch, turn) for turn in range(1, ROUNDS + 1)) for batch in BATCHES}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(measure(sys.argv[1])))
