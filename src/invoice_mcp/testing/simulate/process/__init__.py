"""Processes that simulate, and how they are stopped."""
