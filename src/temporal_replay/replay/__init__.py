"""Replays recorded histories with workflow code, in this process or in several."""
