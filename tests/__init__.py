"""The tests: what the exchange promises, in the order of its layers."""
