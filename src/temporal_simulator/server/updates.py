"""Updates that were asked for, from their request to their outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Outcome, Request
from temporalio.bridge.proto.workflow_activation import DoUpdate, WorkflowActivationJob


@dataclass(eq=False)
class Update:
    """An update that was asked for.

    Attributes:
        outcome: Set when it has ended: completed, failed or rejected. None: nobody will answer it any more.
        accepted: Number of the event; 0 before.
        admitted: Number of the event with which a reset applied it again; 0: none did.
    """

    request: Request
    outcome: asyncio.Future[Outcome | None]
    accepted: int = 0
    admitted: int = 0

    @property
    def id(self) -> str:
        """Unique within the workflow."""
        return self.request.meta.update_id

    def job(self) -> WorkflowActivationJob:
        """How the code is asked for it."""
        given = self.request.input
        return WorkflowActivationJob(
            do_update=DoUpdate(
                id=self.id,
                protocol_instance_id=self.id,
                name=given.name,
                input=given.args.payloads,
                headers=given.header.fields,
                meta=self.request.meta,
                run_validator=True,
            )
        )


def updates_in(history: Iterable[HistoryEvent]) -> list[Update]:
    """All updates of which a history tells, with what has become of each."""
    found: dict[str, Update] = {}
    for each in history:
        admitted = each.workflow_execution_update_admitted_event_attributes
        accepted = each.workflow_execution_update_accepted_event_attributes
        completed = each.workflow_execution_update_completed_event_attributes
        outcome = asyncio.get_running_loop().create_future()
        match each.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED:
                found[admitted.request.meta.update_id] = Update(admitted.request, outcome, admitted=each.event_id)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
                update = found.setdefault(accepted.protocol_instance_id, Update(accepted.accepted_request, outcome))
                update.accepted = each.event_id
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED:
                found[completed.meta.update_id].outcome.set_result(completed.outcome)
    return list(found.values())


def told_again(job: WorkflowActivationJob) -> WorkflowActivationJob:
    """The same, for code that was told it before and has forgotten it: whether an update is taken is asked anew."""
    if not job.HasField("do_update"):
        return job
    again = WorkflowActivationJob()
    again.CopyFrom(job)
    again.do_update.run_validator = True
    return again
