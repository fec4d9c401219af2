"""What holds for the whole suite."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long an example takes is nobody's assertion. The examples are the same in each run, so only a change of the code
# turns a test red; `pytest --hypothesis-profile=search` looks for new ones, many more of them.
STEADY = settings(deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("hearth", STEADY)
settings.register_profile("search", STEADY, derandomize=False, max_examples=1000)
settings.load_profile("hearth")
