"""A deterministic simulator of Temporal for Python workflows: one process, virtual time, no server.

Workflow and activity code is the production code. The simulator replaces the Temporal server and the SDK's core. A
`Simulation` has workers, and Temporal's own client talks to it:

    simulation = Simulation()
    simulation.start_worker("queue", Worker(workflows=[Greeting], activities=[greet]))
    client = connect(simulation)
    handle = await client.start_workflow(Greeting.run, "Ann", id="greet-ann", task_queue="queue")
    await simulation.advance(timedelta(days=5))
    print(await handle.result())

Where to find which technique:

- Discrete-event simulation on a virtual clock: `temporal_simulator.event_queue`, and for asyncio itself
  `temporal_simulator.virtual_time_loop`.
- Random scheduling and fault injection from a seed: `RandomScheduler` in `temporal_simulator.scheduler`.
- Stateless model checking by depth-first search (VeriSoft): `explore` in `temporal_simulator.explore`; a path through
  it is run again by `replay_path`.
- State hashing of live workflow instances: `temporal_simulator.worker.fingerprint`; of a whole simulation:
  `Simulation.digest`.
- Memoized execution of workflow code: `MemoizingRunner` in `temporal_simulator.worker.memoize`.
- Replay, and the check for nondeterminism: `temporal_simulator.worker.replay` and `.nondeterminism`.

What is not simulated raises `NotSimulated`; docs/simulator.md lists it, and what the simulator cannot show.
"""

from temporal_simulator.client.service import connect
from temporal_simulator.event_queue import Event
from temporal_simulator.explore import ChoiceSequence, ExplorationStats, explore, replay_path
from temporal_simulator.protocol.start import Start
from temporal_simulator.scheduler import FifoScheduler, RandomScheduler, Scheduler
from temporal_simulator.server.commands import NotSimulated
from temporal_simulator.server.execution import Execution
from temporal_simulator.server.workflow_tasks import EndlessTaskFailureError
from temporal_simulator.simulation import START_TIME, LivelockError, Simulation
from temporal_simulator.timeline import TimelineEntry, timeline
from temporal_simulator.virtual_time_loop import DeadlockError, VirtualTimeLoop
from temporal_simulator.worker.memoize import MemoizingRunner
from temporal_simulator.worker.replay import EvictionError
from temporal_simulator.worker.worker import Worker

__all__ = [
    "START_TIME",
    "ChoiceSequence",
    "DeadlockError",
    "EndlessTaskFailureError",
    "Event",
    "EvictionError",
    "Execution",
    "ExplorationStats",
    "FifoScheduler",
    "LivelockError",
    "MemoizingRunner",
    "NotSimulated",
    "RandomScheduler",
    "Scheduler",
    "Simulation",
    "Start",
    "TimelineEntry",
    "VirtualTimeLoop",
    "Worker",
    "connect",
    "explore",
    "replay_path",
    "timeline",
]
