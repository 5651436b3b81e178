"""Temporal itself: connecting to it, the embedded server, and what can be asked of a namespace."""
