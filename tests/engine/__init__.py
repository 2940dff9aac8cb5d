"""Tests of the engine: it agrees with the twin, refuses without a trace, and notices its own damage."""
