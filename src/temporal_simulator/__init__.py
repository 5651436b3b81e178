"""A deterministic simulator of Temporal for workflows in Python: in this process, on virtual time, without a server.

Knows nothing of what the workflows are about. A simulation is given workers, and is talked to by Temporal's own client:

    simulation = Simulation()
    simulation.start_worker("queue", Worker(workflows=[Greeting], activities=[greet]))
    client = connect(simulation)
    handle = await client.start_workflow(Greeting.run, "Ann", id="greet-ann", task_queue="queue")
    await simulation.advance(timedelta(days=5))
    print(await handle.result())
"""

from temporal_simulator.client.service import connect
from temporal_simulator.event_loop import DeadlockError, VirtualTimeLoop
from temporal_simulator.event_queue import Event
from temporal_simulator.explore import Branches, Explored, explore, replay_path
from temporal_simulator.protocol.start import Start
from temporal_simulator.scheduler import FifoScheduler, RandomScheduler, Scheduler
from temporal_simulator.server.commands import NotSimulated
from temporal_simulator.server.execution import Execution
from temporal_simulator.server.workflow_tasks import EndlessTaskFailureError
from temporal_simulator.simulation import BEGINS, LivelockError, Simulation
from temporal_simulator.timeline import Moment, timeline
from temporal_simulator.worker.memoize import MemoizingRunner
from temporal_simulator.worker.replay import EvictionError
from temporal_simulator.worker.worker import Worker

__all__ = [
    "BEGINS",
    "Branches",
    "DeadlockError",
    "EndlessTaskFailureError",
    "Event",
    "EvictionError",
    "Execution",
    "Explored",
    "FifoScheduler",
    "LivelockError",
    "MemoizingRunner",
    "Moment",
    "NotSimulated",
    "RandomScheduler",
    "Scheduler",
    "Simulation",
    "Start",
    "VirtualTimeLoop",
    "Worker",
    "connect",
    "explore",
    "replay_path",
    "timeline",
]
