"""Workflow updates, from request to outcome."""

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
    """A workflow update.

    Attributes:
        outcome: Set when it has completed, failed or was rejected. None: the workflow closed before it was accepted.
        accepted: Id of the event that accepted it; 0 before.
        admitted: Id of the event with which a reset reapplied it; 0 if none did.
    """

    request: Request
    outcome: asyncio.Future[Outcome | None]
    accepted: int = 0
    admitted: int = 0

    @property
    def id(self) -> str:
        """Its id, unique within the run."""
        return self.request.meta.update_id

    def job(self) -> WorkflowActivationJob:
        """The job that delivers it to workflow code."""
        request = self.request.input
        return WorkflowActivationJob(
            do_update=DoUpdate(
                id=self.id,
                protocol_instance_id=self.id,
                name=request.name,
                input=request.args.payloads,
                headers=request.header.fields,
                meta=self.request.meta,
                run_validator=True,
            )
        )


def updates_of(history: Iterable[HistoryEvent]) -> list[Update]:
    """The updates in a history, with their outcomes."""
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


def with_validation(job: WorkflowActivationJob) -> WorkflowActivationJob:
    """The job, such that an update is validated again; for code that has not processed it after a reset."""
    if not job.HasField("do_update"):
        return job
    copy = WorkflowActivationJob()
    copy.CopyFrom(job)
    copy.do_update.run_validator = True
    return copy
