"""Fuzzing (`fuzz`) and stateless model checking (`explore`) of the workflows, in the simulator."""
