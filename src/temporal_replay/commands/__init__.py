"""Commands: as a history records them, as a replay emits them, and how both differ."""
