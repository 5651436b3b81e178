"""Updates that were asked for, from their request to their outcome."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

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
