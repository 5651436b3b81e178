"""Events and commands of Temporal, as values."""
