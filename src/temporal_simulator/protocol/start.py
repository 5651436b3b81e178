"""The parameters with which a workflow run starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from temporalio.api.common.v1 import Memo, Payload, Payloads, SearchAttributes, WorkflowExecution
from temporalio.api.sdk.v1 import UserMetadata

from temporal_simulator.event_queue import SECOND


class ParentLink(Protocol):
    """What a child run needs of its parent.

    Attributes:
        initiated: Id of the parent's event that initiated the child.
    """

    initiated: int

    @property
    def parent_ref(self) -> WorkflowExecution:
        """Workflow and run id of the parent."""
        ...

    @property
    def root_ref(self) -> WorkflowExecution:
        """Workflow and run id of the topmost ancestor."""
        ...

    def report_closed(self) -> None:
        """Report to the parent that the child has closed."""
        ...


@dataclass(eq=False)
class Start:
    """The parameters of a workflow run. Durations are in nanoseconds; 0 is no limit.

    Attributes:
        parent: Set for a child workflow.

    Example, to start a run without a client:

        run = simulation.start(Start("greet-ann", "Greeting", "queue"))
    """

    workflow_id: str
    workflow_type: str
    task_queue: str
    input: Payloads = field(default_factory=Payloads)
    task_timeout: int = 10 * SECOND
    run_timeout: int = 0
    execution_timeout: int = 0
    memo: Memo = field(default_factory=Memo)
    search_attributes: SearchAttributes = field(default_factory=SearchAttributes)
    header: Mapping[str, Payload] = field(default_factory=dict)
    user_metadata: UserMetadata | None = None
    parent: ParentLink | None = None
