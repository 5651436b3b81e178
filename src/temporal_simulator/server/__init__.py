"""The server side: histories, workflow tasks, timers, activities, children, signals, updates and resets.

The server runs workflow code through `temporal_simulator.worker.replay.WorkflowReplay`, which it uses directly: an
interface would repeat the whole class. It sees the simulation through `SimulationContext`. Within this package,
`Execution` and the parts of a run refer to each other; the parts import it for type checking only.
"""
