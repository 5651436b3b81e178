"""A world for workflows with the original sample's interface (signals and queries), and the checker on it."""
