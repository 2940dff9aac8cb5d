"""The plain-Python twin: a naive exchange on `decimal` that the engine is compared with."""
