"""Commands: recorded in a history, emitted on replay, and compared."""
