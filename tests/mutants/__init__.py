"""Mutants: the workflows, edited in every way that breaks them and in ways that must not matter, and who notices."""
