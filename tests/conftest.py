"""What holds for the whole suite."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("hearth", deadline=None)  # how long an example takes is nobody's assertion
settings.load_profile("hearth")
