"""Stateless model checking: every interleaving of a small plan."""
