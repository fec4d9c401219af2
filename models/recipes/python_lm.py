"""Train `hearth-python-lm`: a small Llama that writes Python, learnt from the standard library.

Run it: `python -m models.recipes.python_lm [--steps N] [--minutes M] [--output FOLDER]`.
"""

import argparse
import copy
import platform
from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from models.recipes.lm_format import (
    CONTEXT,
    END,
    SPECIAL_TOKENS,
    START,
    VOCABULARY,
    pair_text,
    train_tokenizer,
)
from models.recipes.lm_measure import answer, bits_per_byte, complete, small_held_out
from models.recipes.lm_training import Schedule, TokenStream, train
from models.recipes.publish import WEIGHTS_ROOT, publish, write_record
from models.recipes.stdlib_corpus import SourceFile, pairs, stdlib_files

SEED = 20
OUTPUT = WEIGHTS_ROOT / "hearth-python-lm"


def new_model() -> LlamaForCausalLM:
    """The untrained model, float32: 4 layers, width 384, 6 query heads of 64 over 2 key-value heads."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=64,
        intermediate_size=1024,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=SPECIAL_TOKENS.index(START),
        pad_token_id=SPECIAL_TOKENS.index(START),
    )
    model = LlamaForCausalLM(config)
    stops = [SPECIAL_TOKENS.index(START), SPECIAL_TOKENS.index(END)]
    model.generation_config = GenerationConfig(eos_token_id=stops, pad_token_id=stops[0])
    return model


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Publish the model's bfloat16 copy and its tokenizer in `folder`."""
    half = copy.deepcopy(model).to(torch.bfloat16)

    def write(scratch: Path) -> None:
        half.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)

    publish(folder, write)


def load(folder: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """The published model, widened to float32 for exact sums on a CPU, and its tokenizer."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def documents(tokenizer: PreTrainedTokenizerBase, files: list[SourceFile]) -> list[list[int]]:
    """Token ids of every training document: whole files and request-answer pairs."""
    texts = [START + file.text for file in files]
    texts += [pair_text(pair) for file in files for pair in pairs(file)]
    return [tokenizer.encode(text, add_special_tokens=False) for text in texts]


def measure(folder: Path, files: list[SourceFile]) -> dict[str, float]:
    """Bits per byte of the published model on the held-out part of `files`, all of it and a fixed few."""
    model, tokenizer = load(folder)
    held_out = [file for file in files if file.held_out]
    for prompt in ("def ", "class Queue:\n", "import os\n\n"):
        print(repr(prompt), "->", prompt + complete(model, tokenizer, prompt), flush=True)
    print(answer(model, tokenizer, "Write a Python function: return the sum of two numbers."), flush=True)
    return {
        "bits_per_byte": round(bits_per_byte(model, tokenizer, [file.text for file in held_out]), 4),
        "bits_per_byte_small": round(bits_per_byte(model, tokenizer, small_held_out(held_out)), 4),
    }


def main() -> None:
    """Train, publishing usable weights every few minutes, then measure and record the result."""
    defaults = Schedule()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=defaults.steps, help="steps of 4096 tokens")
    parser.add_argument("--minutes", type=float, default=defaults.max_minutes, help="end by then")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of weights to write")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    files = stdlib_files()
    training = [file for file in files if not file.held_out]
    tokenizer = train_tokenizer(file.text for file in training)
    stream = TokenStream(documents(tokenizer, training), SEED)
    model = new_model()
    print(f"{len(training)} files, {stream.tokens} tokens, {model.num_parameters()} parameters", flush=True)

    def checkpoint(step: int) -> None:
        save(model, tokenizer, options.output)
        print(f"step {step} saved", flush=True)

    schedule = Schedule(steps=options.steps, max_minutes=options.minutes)
    steps = train(model, stream, schedule, checkpoint)
    checkpoint(steps)
    record = {
        "recipe": "python -m models.recipes.python_lm",
        "python": platform.python_version(),
        "seed": SEED,
        "steps": steps,
        "tokens_per_step": schedule.batch * schedule.length,
        "corpus_tokens": stream.tokens,
        **measure(options.output, files),
    }
    write_record(options.output, record)
    print(record, flush=True)


if __name__ == "__main__":
    main()
