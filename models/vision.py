"""Vision models: pictures in, labels or boxes out."""

from models.entry import ModelEntry

ENTRIES = (
    ModelEntry(
        name="hearth-digits",
        family="vision",
        task="image-classification",
        source="hearth-digits",
        licence="CC-BY-4.0",
        data="Optical Recognition of Handwritten Digits, UCI, as in scikit-learn (CC-BY-4.0)",
        parameters=700_458,
        size_bytes=2_822_480,
        summary="A small ResNet that reads one handwritten digit, dark on light or light on dark.",
        recipe="models.recipes.digits",
        quality={"accuracy": 0.9944, "accuracy_inverted": 0.9917},
    ),
)
