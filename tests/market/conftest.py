"""Hypothesis as in the engine's tests."""

import tests.engine.conftest  # noqa: F401  # the profiles
