from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers import decoders as decoding

from benchmarks.prompts import Shape, load, synthetic

WORDS = ["alpha", "beta", "gamma", "delta", "eps", "zeta", "eta", "theta", "iota", "kappa", "mu", "nu", "xi"]
WORDS += ["pi", "rho", "sigma", "tau", "phi"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A byte-level tokenizer that knows some words with a leading space, and all bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = dict.fromkeys(alphabet)
    merges = []
    for word in WORDS:
        made = "Ġ"
        for letter in word:
            if made + letter not in pieces:
                merges.append((made, letter))
            made += letter
            pieces[made] = None
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    made_tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made_tokenizer.decoder = decoding.ByteLevel()
    made_tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_lengths_are_exact_with_a_tokenizer_and_prefixes_are_shared(tokenizer: Path) -> None:
    prompts = synthetic(Shape(tokens=20, shared=8, groups=2, count=10), 1, tokenizer)
    encode = Tokenizer.from_file(str(tokenizer / "tokenizer.json")).encode
    ids = [encode(prompt).ids for prompt in prompts]
    assert {len(each) for each in ids} == {20}
    assert len(set(prompts)) == 10
    assert len({tuple(each[:8]) for each in ids}) == 2
    assert len({tuple(each[:9]) for each in ids}) > 2


def test_prompts_repeat_with_their_seed() -> None:
    assert synthetic(Shape(count=3), 1) == synthetic(Shape(count=3), 1)
    assert synthetic(Shape(count=3), 1) != synthetic(Shape(count=3), 2)
    assert [len(prompt.split()) for prompt in synthetic(Shape(tokens=7, count=2), 0)] == [7, 7]


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"tokens": 4, "shared": 4}, {"shared": -1}, {"groups": 0}])
def test_impossible_shapes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Shape(**wrong)


def test_prompts_of_files(tmp_path: Path) -> None:
    lines, documents = tmp_path / "p.txt", tmp_path / "p.jsonl"
    lines.write_text("one\n\ntwo\n")
    documents.write_text(json.dumps({"prompt": "a\nb", "id": 3}) + "\n")
    assert load(lines) == ["one", "two"]
    assert load(documents) == ["a\nb"]


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"prompt": ""}', '{"prompt": 3}', '"text"'])
def test_errors_of_prompt_files_name_the_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "fine"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"p\.jsonl:2: "):
        load(file)
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ValueError, match="no prompts"):
        load(tmp_path / "empty")
