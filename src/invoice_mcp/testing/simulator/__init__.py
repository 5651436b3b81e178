"""A deterministic simulator of Temporal for workflows in Python: in this process, on virtual time, without a server.

Knows nothing of what the workflows are about. A simulation is given workers, and is talked to by Temporal's own client:

    simulation = Simulation()
    simulation.start_worker("queue", Worker(workflows=[Greeting], activities=[greet]))
    client = connect(simulation)
    handle = await client.start_workflow(Greeting.run, "Ann", id="greet-ann", task_queue="queue")
    await simulation.advance(timedelta(days=5))
    print(await handle.result())
"""

from invoice_mcp.testing.simulator._agenda import Step
from invoice_mcp.testing.simulator._chance import Chooser, InOrder, Seeded
from invoice_mcp.testing.simulator._code import StaysInMemory
from invoice_mcp.testing.simulator._commands import NotSimulated
from invoice_mcp.testing.simulator._execution import Execution, Start
from invoice_mcp.testing.simulator._exploring import Branches, Explored, explore, live_again
from invoice_mcp.testing.simulator._recalling import RecallingRunner
from invoice_mcp.testing.simulator._service import connect
from invoice_mcp.testing.simulator._simulation import BEGINS, GoesInCircles, Simulation
from invoice_mcp.testing.simulator._tasks import EndlessTaskFailureError
from invoice_mcp.testing.simulator._timeline import Moment, timeline
from invoice_mcp.testing.simulator._virtual_loop import EverythingWaits, VirtualTimeLoop
from invoice_mcp.testing.simulator._worker import Worker

__all__ = [
    "BEGINS",
    "Branches",
    "Chooser",
    "EndlessTaskFailureError",
    "EverythingWaits",
    "Execution",
    "Explored",
    "GoesInCircles",
    "InOrder",
    "Moment",
    "NotSimulated",
    "RecallingRunner",
    "Seeded",
    "Simulation",
    "Start",
    "StaysInMemory",
    "Step",
    "VirtualTimeLoop",
    "Worker",
    "connect",
    "explore",
    "live_again",
    "timeline",
]
