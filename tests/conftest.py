"""What all tests have in common."""

from __future__ import annotations

from hypothesis import settings

# No test has a clock in it: a busy machine is no failure.
settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")
