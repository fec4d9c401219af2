"""Which requests should meet at one replica of a variant. Pure."""

from __future__ import annotations

from server.dialects.target_model import TARGET_MODEL
from server.spec import VariantSpec


def affinity(variant: VariantSpec) -> str:
    """The header by whose value a request goes to the replica that has loaded what it asks for; empty: all replicas
    are alike."""
    return TARGET_MODEL if any(each.many is not None for each in variant.containers or (variant,)) else ""
