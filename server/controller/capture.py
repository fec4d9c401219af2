"""What replicas capture, as the controller tells them with the answer to each beat."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from server.beat import Beat
from server.controller.tenants import tenant
from server.spec import Capture, EndpointSpec
from server.store.store import Resource


class CaptureConfigs:
    """Of all endpoints; rebuilt from the store. `own`: this Hearth's account."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._found: dict[tuple[str, str, str, str], Capture] = {}
        """By account (empty: the own one), endpoint, variant and revision."""

    def look(self, endpoints: Iterable[Resource]) -> None:
        """Takes note of what there is now."""
        found: dict[tuple[str, str, str, str], Capture] = {}
        for resource in endpoints:
            spec, account = EndpointSpec.model_validate(resource.document), tenant(resource.account, self._own)
            for side in (*([spec.pending.spec] if spec.pending else []), spec):  # what serves now comes last: it stays
                for variant in side.fleet:
                    place = (account, resource.name, variant.name, variant.revision)
                    if side.capture is None:
                        found.pop(place, None)
                    else:
                        found[place] = side.capture
        self._found = found

    def of(self, beat: Beat) -> dict[str, Any] | None:
        """What the replica of `beat` captures; None: nothing."""
        found = self._found.get((beat.account, beat.endpoint, beat.variant, beat.revision))
        return None if found is None else found.model_dump(mode="json")
