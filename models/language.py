"""Language models: text in, text out."""

from models.entry import ModelEntry

ENTRIES = (
    ModelEntry(
        name="hearth-python-lm",
        family="language",
        task="generate",
        source="hearth-python-lm",
        licence="PSF-2.0",
        data="CPython 3.11 standard library source (PSF-2.0)",
        parameters=7_867_776,
        size_bytes=15_739_696,
        context_length=2048,
        summary="A small Llama that writes Python, with a chat template; for trying things out on a CPU.",
        recipe="models.recipes.python_lm",
        quality={"bits_per_byte": 1.5461},
    ),
)
