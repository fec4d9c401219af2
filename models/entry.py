"""The form of a catalogue entry: what is known about one model before it is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Task = Literal["generate", "embed", "classify", "image-classification", "object-detection", "predict", "handler"]
"""What a model is for: text from text, vectors from text, labels of text, labels of pictures, boxes, predictions
for rows of numbers, whatever its own code makes of a body."""

PACKAGE_PREFIX = "package:"
"""Marks a source as `package:<import name>/<folder inside the package>`."""


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One model of the catalogue; every figure here is checked against the weights by the tests."""

    name: str
    """What users write; also the folder under `models/weights` when the weights ship with Hearth."""
    family: str
    """The file of the catalogue it belongs to: language, embedding or vision."""
    task: Task
    source: str
    """A folder under `models/weights`, a `package:` reference, or a Hugging Face id such as `org/name`."""
    licence: str
    """SPDX expression, or words, for the weights."""
    data: str
    """What it was trained on, and that data's own licence."""
    parameters: int
    """Count of distinct weights (tied ones once)."""
    size_bytes: int
    """Size of the safetensors files."""
    context_length: int | None = None
    """Longest input in tokens; None for models that read no text."""
    summary: str
    """One line for a listing."""
    recipe: str | None = None
    """The module under `models.recipes` that trains it; None for weights made elsewhere."""
    quality: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Measured figures by name; the model's card says how each was measured."""


@dataclass(frozen=True)
class ResolvedModel:
    """What to hand to a loader for a model that a user named."""

    location: str
    """An absolute local folder, an archive of one, or a Hugging Face id."""
    entry: ModelEntry | None = None
    """The catalogue's entry; None for a folder or an id of the user's own."""
    task: Task | None = None
    """None when it cannot be told without downloading, or from the folder's config."""

    @property
    def local(self) -> bool:
        """Whether the weights are on this machine already."""
        return self.location.startswith("/")


class ModelError(ValueError):
    """A named model cannot be used; the message is fit to show to a user."""


class UnknownModel(ModelError):
    """The name is no catalogue entry, no existing folder and not shaped like a Hugging Face id."""


class MissingWeights(ModelError):
    """The catalogue has the name, but its weights are not installed here."""
