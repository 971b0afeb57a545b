"""The layers of every transformer, each written once, against the engine protocol."""
