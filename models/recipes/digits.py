"""Train `hearth-digits`: a small ResNet that reads handwritten digits, learnt from scikit-learn's set.

Run it: `python -m models.recipes.digits [--epochs N] [--output FOLDER]`.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional
from transformers import AutoImageProcessor, ResNetConfig, ResNetForImageClassification, ViTImageProcessorPil

from models.recipes.publish import WEIGHTS_ROOT, publish, write_record

SEED = 20
SIDE = 32
"""Side of the square the model sees, in pixels."""
BATCH = 128
OUTPUT = WEIGHTS_ROOT / "hearth-digits"


class Digits:
    """One side of the split: `images` float32 (count, 8, 8), 0 to 1, light on dark; `labels` int64."""

    def __init__(self, images: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> None:
        """Take scikit-learn's arrays, whose intensities run from 0 to 16."""
        self.images = torch.tensor(images / 16, dtype=torch.float32)
        self.labels = torch.tensor(labels, dtype=torch.int64)

    def pictures(self, inverted: bool = False) -> list[Image.Image]:
        """The images as 8-bit grey pictures of 8 by 8 pixels, dark ink on light when `inverted`."""
        values = (1 - self.images if inverted else self.images) * 255
        return [Image.fromarray(array) for array in values.round().to(torch.uint8).numpy()]


def split() -> tuple[Digits, Digits]:
    """(training, held out): four fifths and one fifth of the 1797 images, each class in proportion."""
    data = load_digits()
    parts = train_test_split(data.images, data.target, test_size=0.2, stratify=data.target, random_state=SEED)
    return Digits(parts[0], parts[2]), Digits(parts[1], parts[3])


def new_model() -> ResNetForImageClassification:
    """The untrained classifier, float32, with the ten digits as its labels."""
    names = {index: str(index) for index in range(10)}
    config = ResNetConfig(
        num_channels=3,
        embedding_size=32,
        hidden_sizes=[32, 64, 128],
        depths=[2, 2, 2],
        layer_type="basic",
        id2label=names,
        label2id={name: index for index, name in names.items()},
    )
    return ResNetForImageClassification(config)


def new_processor() -> ViTImageProcessorPil:
    """Any picture to a 3 x `SIDE` x `SIDE` float32 array from -1 to 1; needs no torchvision."""
    return ViTImageProcessorPil(
        size={"height": SIDE, "width": SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        do_convert_rgb=True,
    )


def augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """Random views of `images` (count, 8, 8), as the processor would give them: (count, 3, SIDE, SIDE)."""
    views = _crispen(_placed(images, rng), rng)
    count = len(images)
    ink, paper = _uniform(count, 0.6, 1.0, rng), _uniform(count, 0.0, 0.3, rng)
    views = paper + (ink - paper) * views
    views = torch.where(_uniform(count, 0, 1, rng) < 0.5, 1 - views, views)
    views = views + 0.04 * torch.randn(views.shape, generator=rng)
    return (views.clamp(0, 1) * 2 - 1).expand(-1, 3, -1, -1)


def _uniform(count: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    return torch.empty(count, 1, 1, 1).uniform_(low, high, generator=rng)


def _placed(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each image enlarged, turned by up to 12 degrees, scaled and shifted on empty ground."""
    count = len(images)
    large = functional.interpolate(images[:, None], size=(SIDE, SIDE), mode="bilinear")
    angle = _uniform(count, -0.2, 0.2, rng).flatten()
    # The grid maps output to input, so a factor above 1 makes the digit smaller.
    across = 1 / _uniform(count, 0.55, 1.1, rng).flatten()
    down = across * _uniform(count, 0.85, 1.15, rng).flatten()
    shift = [_uniform(count, -0.2, 0.2, rng).flatten() for _ in range(2)]
    rows = [
        torch.stack([angle.cos() * across, -angle.sin() * down, shift[0]], dim=1),
        torch.stack([angle.sin() * across, angle.cos() * down, shift[1]], dim=1),
    ]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(large.shape), align_corners=False)
    return functional.grid_sample(large, grid, align_corners=False)


def _crispen(views: Tensor, rng: torch.Generator) -> Tensor:
    """Half of `views` get sharp strokes of varied width, as a pen on paper or a drawing program gives."""
    count = len(views)
    threshold = _uniform(count, 0.25, 0.65, rng)
    sharp = torch.sigmoid((views - threshold) * _uniform(count, 6, 25, rng))
    return torch.where(_uniform(count, 0, 1, rng) < 0.5, sharp, views)


def train(model: ResNetForImageClassification, data: Digits, epochs: int) -> None:
    """Train `model` in place on random views of `data`, printing the loss of some epochs."""
    rng = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    steps = epochs * -(-len(data.labels) // BATCH)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.15)
    model.train()
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(data.labels), generator=rng)
        for chosen in torch.split(order, BATCH):
            logits = model(pixel_values=augment(data.images[chosen], rng)).logits
            loss = functional.cross_entropy(logits, data.labels[chosen], label_smoothing=0.05)
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            scheduler.step()
        if epoch % 10 == 0:
            print(f"epoch {epoch} of {epochs}, loss {loss.item():.3f}", flush=True)
    model.eval()


@torch.no_grad()
def accuracy(folder: Path, data: Digits, inverted: bool = False) -> float:
    """Share of `data` that the published model in `folder` reads right, by its own image processor."""
    model = ResNetForImageClassification.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder)
    pixels = processor(images=data.pictures(inverted), return_tensors="pt")["pixel_values"]
    return float((model(pixel_values=pixels).logits.argmax(-1) == data.labels).float().mean())


def main() -> None:
    """Train, publish, then measure what was published and record it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=160)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of weights to write")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    training, held_out = split()
    model = new_model()
    print(f"{len(training.labels)} images, {model.num_parameters()} parameters", flush=True)
    train(model, training, options.epochs)

    def write(scratch: Path) -> None:
        model.save_pretrained(scratch)
        new_processor().save_pretrained(scratch)

    publish(options.output, write)
    record = {
        "recipe": "python -m models.recipes.digits",
        "seed": SEED,
        "epochs": options.epochs,
        "held_out_images": len(held_out.labels),
        "accuracy": round(accuracy(options.output, held_out), 4),
        "accuracy_inverted": round(accuracy(options.output, held_out, inverted=True), 4),
    }
    write_record(options.output, record)
    print(record, flush=True)


if __name__ == "__main__":
    main()
