"""A private Kafka broker."""

from tests.process.broker import broker, mortal_broker  # noqa: F401  # fixtures
