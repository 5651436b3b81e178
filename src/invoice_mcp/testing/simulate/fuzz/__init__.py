"""Fuzzing: random scenarios, compared with the reference model, and shrunk where they fail."""
