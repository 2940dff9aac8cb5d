"""Hypothesis as in the engine's tests."""

import tests.engine.conftest  # noqa: F401  # the profiles
from tests.persist.mariadb import mariadb, mysql_settings, viabtc_settings  # noqa: F401  # fixtures
