"""What must agree, one module for each promise: pure functions of facts, each giving a `Finding`."""
