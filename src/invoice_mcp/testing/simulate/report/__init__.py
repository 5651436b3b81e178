"""Reports of fuzzing and exploration, as text, JSON and HTML."""
