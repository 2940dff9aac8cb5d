"""Settings, readiness, alerts."""
