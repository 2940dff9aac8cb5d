"""A private MariaDB and a private Kafka broker for the tests of whole processes."""

from tests.persist.mariadb import mariadb, mysql_settings  # noqa: F401  # fixtures
from tests.process.broker import broker, mortal_broker  # noqa: F401  # fixtures
