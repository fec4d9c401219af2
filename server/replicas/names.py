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
    account: str = ""
    """Empty: this Hearth's own, or the one whose applications alone are looked at."""
    component: str = ""
    """The inference component that it runs, if it runs one."""

    def __str__(self) -> str:
        account = (self.account,) if self.account else ()
        # No name has an underscore.
        variant = f"{self.variant}_{self.component}" if self.component else self.variant
        return ":".join(("hearth", *account, self.endpoint, variant, self.revision))

    @classmethod
    def parse(cls, text: str) -> AppName | None:
        """None for an application that is not ours."""
        head, *parts = text.split(":")
        if head != "hearth" or len(parts) not in (3, 4):
            return None
        account = parts.pop(0) if len(parts) == 4 else ""
        endpoint, variant, revision = parts
        variant, _, component = variant.partition("_")
        return cls(endpoint, variant, revision, account, component)


def app_name(endpoint: EndpointSpec, variant: VariantSpec, account: str = "") -> AppName:
    return AppName(endpoint.name, variant.name, variant.revision, account, variant.component)
