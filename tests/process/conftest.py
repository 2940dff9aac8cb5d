"""A private MariaDB for the tests of whole processes."""

from tests.persist.mariadb import mariadb, mysql_settings  # noqa: F401  # fixtures
