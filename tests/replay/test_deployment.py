"""Worker Deployment versioning on the real server, with the workers of two releases running at the same time."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import WorkerDeploymentConfig

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.domain.names import line_workflow_id
from invoice_mcp.domain.report import AcceptedInvoice, DecisionRequest, InvoiceReport, InvoiceRequest, Status
from invoice_mcp.testing import PAST_DUE
from invoice_mcp.testing.world.fakes import RecordingPayments, ScriptedErp
from invoice_mcp.workflow.invoice_workflow import InvoiceWorkflow
from invoice_mcp.workflow.worker import build_worker
from tests.requirements import requirement

_numbers = itertools.count(1)
Handle = WorkflowHandle[InvoiceWorkflow, InvoiceReport]


@dataclass
class Deployment:
    """Two versions of one deployment, A and B, whose workers poll one task queue.

    Attributes:
        payments: What the worker of each version has paid.
    """

    client: Client
    name: str = field(default_factory=lambda: f"invoices-{os.getpid()}-{next(_numbers)}")
    payments: dict[str, RecordingPayments] = field(default_factory=dict)

    @asynccontextmanager
    async def worker(self, build: str, behavior: VersioningBehavior) -> AsyncIterator[None]:
        """The worker of one version, while it runs."""
        self.payments[build] = RecordingPayments()
        version = WorkerDeploymentVersion(deployment_name=self.name, build_id=build)
        async with build_worker(
            self.client,
            ScriptedErp(),
            self.payments[build],
            task_queue=self.name,
            deployment_config=WorkerDeploymentConfig(
                version=version, use_worker_versioning=True, default_versioning_behavior=behavior
            ),
        ):
            yield

    async def release(self, build: str) -> None:
        """Make a version the current one, once the server has heard of its worker."""
        request = SetWorkerDeploymentCurrentVersionRequest(
            namespace=self.client.namespace, deployment_name=self.name, build_id=build
        )
        async with asyncio.timeout(30):
            while True:
                try:
                    await self.client.workflow_service.set_worker_deployment_current_version(request)
                except RPCError:
                    await asyncio.sleep(0.1)
                else:
                    return

    async def submit(self) -> Handle:
        """An invoice that waits for its approval."""
        invoice = Invoice.model_validate(
            {
                "invoice_id": f"{self.name}-{next(_numbers)}",
                "customer": "ACME Corp",
                "lines": [{"description": "Widget", "amount": "100", "due_date": PAST_DUE}],
            }
        )
        request = InvoiceRequest(invoice=AcceptedInvoice.of(invoice))
        handle = await self.client.start_workflow(
            InvoiceWorkflow.run, request, id=f"invoice-{invoice.invoice_id}", task_queue=self.name
        )
        async with asyncio.timeout(30):
            while await handle.query(InvoiceWorkflow.status) != Status.PENDING_APPROVAL:
                await asyncio.sleep(0.02)
        return handle

    async def builds_of(self, workflow_id: str) -> Sequence[str]:
        """Which version has worked off each of a workflow's tasks."""
        events = (await self.client.get_workflow_handle(workflow_id).fetch_history()).events
        completed = [event.workflow_task_completed_event_attributes for event in events]
        return [each.deployment_version.build_id for each in completed if each.deployment_version.build_id]


@asynccontextmanager
async def both_running(client: Client, behavior: VersioningBehavior) -> AsyncIterator[Deployment]:
    deployment = Deployment(client)
    async with deployment.worker("A", behavior), deployment.worker("B", behavior):
        yield deployment


async def approve_and_pay(handle: Handle) -> None:
    await handle.execute_update(InvoiceWorkflow.approve, DecisionRequest(by="Ann"), rpc_timeout=timedelta(seconds=30))
    async with asyncio.timeout(30):
        assert (await handle.result()).status == Status.PAID


CASES = {
    # An invoice began on A and is approved after B was released: which version pays it.
    VersioningBehavior.PINNED: "A",
    VersioningBehavior.AUTO_UPGRADE: "B",
}


@requirement("HISTORY-DEPLOYMENT")
@pytest.mark.parametrize("behavior", CASES, ids=lambda behavior: behavior.name)
async def test_an_invoice_started_on_a_is_paid_by_the_version_of_its_versioning_behavior(
    behavior: VersioningBehavior, real_client: Client
) -> None:
    pays = CASES[behavior]
    async with both_running(real_client, behavior) as deployment:
        await deployment.release("A")
        old = await deployment.submit()
        await deployment.release("B")
        await approve_and_pay(old)
        assert [len(deployment.payments[build].made) for build in ("A", "B")] == ([1, 0] if pays == "A" else [0, 1])
        builds = await deployment.builds_of(old.id)
        assert builds[0] == "A"
        assert builds[-1] == pays
        assert set(await deployment.builds_of(line_workflow_id(old.id, 1))) == {pays}


@requirement("HISTORY-DEPLOYMENT")
async def test_an_invoice_started_after_a_release_is_paid_by_that_release(real_client: Client) -> None:
    async with both_running(real_client, VersioningBehavior.PINNED) as deployment:
        await deployment.release("A")
        old = await deployment.submit()
        await deployment.release("B")
        new = await deployment.submit()
        await approve_and_pay(new)
        await approve_and_pay(old)
        assert set(await deployment.builds_of(new.id)) == {"B"}
        assert set(await deployment.builds_of(old.id)) == {"A"}
        assert [len(deployment.payments[build].made) for build in ("A", "B")] == [1, 1]
