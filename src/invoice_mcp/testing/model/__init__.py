"""The reference model, and scenarios as data."""
