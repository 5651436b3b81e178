"""Recorded histories of this project's own workflows."""
