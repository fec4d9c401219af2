"""Names of Ray Serve applications."""

from __future__ import annotations

from dataclasses import dataclass

from server.spec import EndpointSpec, VariantSpec


@dataclass(frozen=True, slots=True)
class AppName:
    """Name of one revision of one variant as a Ray Serve application.

    Each revision is an application of its own, so that a new one can become ready beside the old.
    """

    endpoint: str
    variant: str
    revision: str

    def __str__(self) -> str:
        return ":".join(("hearth", self.endpoint, self.variant, self.revision))

    @classmethod
    def parse(cls, text: str) -> AppName | None:
        """None for an application that is not ours."""
        parts = text.split(":")
        return cls(*parts[1:]) if len(parts) == 4 and parts[0] == "hearth" else None


def app_name(endpoint: EndpointSpec, variant: VariantSpec) -> AppName:
    return AppName(endpoint.name, variant.name, variant.revision)
