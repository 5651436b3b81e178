"""Binds the parts of the embedded state to each other: Temporal's database, the payment ledger and the home.

Database and ledger each know payments that the other can't prove. If one is lost and starts empty, payments could be
made twice; so a worker starts only if they belong together:

* The ledger stores the id of the Temporal namespace it pays for (`PaymentLedger.bind`).
* The Temporal namespace stores the id of its ledger, in its `data`.
* The home stores the id of the Temporal namespace, in `temporal.id`: with a real gateway there is no ledger.

A namespace's id is created with its database, and is the same in every copy of the database.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
from temporalio.api.namespace.v1 import NamespaceInfo, UpdateNamespaceInfo
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from invoice_mcp.adapters.ledger import LedgerIdentity, PaymentLedger
from invoice_mcp.adapters.payments import PaymentUnavailableError
from invoice_mcp.adapters.settings import ledger_path
from invoice_mcp.domain.errors import ConfigurationError
from invoice_mcp.domain.names import LINE_WORKFLOW_TYPE
from invoice_mcp.domain.report import LineOutcome, LineStatus
from invoice_mcp.temporal.embedded import EmbeddedUnavailableError

logger = logging.getLogger(__name__)

ACCEPT_OPTION = "--accept-lost-state"
"""The option to continue after a loss."""

_BOTH = "temporal.db, and payments.db where there was one,"
_ADVICE = f"Stop everything and restore {_BOTH} from one backup; or continue with {ACCEPT_OPTION}:"
_LEDGER = "invoice-mcp-ledger"
_RPC = timedelta(seconds=10)
_ATTEMPTS = 3
# Limits of the search for the newest payment, which delays the start: lines, and seconds.
_MAX_LINES = 500
_SEARCH_TIMEOUT = 15.0


def database_path(home: Path) -> Path:
    """The file of the embedded Temporal's database."""
    return home / "temporal.db"


@dataclass(frozen=True)
class StateSnapshot:
    """What the parts of the state know when a worker starts.

    Attributes:
        temporal: Id of the connected Temporal namespace.
        temporal_before: Id of the namespace stored in the home; None if none is stored.
        begun: Whether Temporal has any line workflow on this worker's task queue.
        ledger: The payment ledger; None if there is none.
        ledger_before: Id of the ledger stored in the namespace; None if none is stored.
        missing_payment: Id of the newest payment that Temporal knows on this task queue, if the ledger lacks it.
    """

    temporal: str
    temporal_before: str | None = None
    begun: bool = False
    ledger: LedgerIdentity | None = None
    ledger_before: str | None = None
    missing_payment: str | None = None


def is_temporal_lost(snapshot: StateSnapshot) -> bool:
    """Whether another Temporal database was used before, whose invoices this one lacks. Pure."""
    if snapshot.temporal_before not in {None, snapshot.temporal}:
        return True
    if snapshot.ledger is None or not snapshot.ledger.payments:
        return False
    # A ledger of release 0.1.0 is not bound. If Temporal has paid nothing, it is not the one that the ledger paid for.
    return snapshot.ledger.temporal != snapshot.temporal if snapshot.ledger.temporal else not snapshot.begun


def is_ledger_lost(snapshot: StateSnapshot) -> bool:
    """Whether the ledger may lack payments that this Temporal requested. Pure."""
    if snapshot.missing_payment is not None:
        return True
    found = snapshot.ledger.id if snapshot.ledger is not None else None
    return found != snapshot.ledger_before if snapshot.ledger_before is not None else found is None and snapshot.begun


async def require_database(home: Path) -> None:
    """Check that Temporal's database still exists, before a server would create a new one.

    Raises:
        ConfigurationError: It is gone.
    """
    if database_path(home).exists():
        return
    try:
        ledger = await PaymentLedger(ledger_path(home)).identity()
    except PaymentUnavailableError as trouble:
        raise ConfigurationError(str(trouble)) from None
    if _read_namespace_id(home) is not None or (ledger is not None and ledger.temporal is not None and ledger.payments):
        raise ConfigurationError(_temporal_lost_message(home))


async def bind_state(
    client: Client, home: Path, ledger: PaymentLedger | None, *, task_queue: str, accept_lost_state: bool = False
) -> None:
    """Check that Temporal, home and ledger belong together, and bind them, before a worker pays.

    Args:
        client: Of the embedded Temporal.
        ledger: The ledger that the worker uses; None with a real gateway.
        task_queue: Of the worker.
        accept_lost_state: Continue after a loss.

    Raises:
        ConfigurationError: Temporal's database or the ledger was lost, or can't be read.
        EmbeddedUnavailableError: Temporal does not answer.
    """
    try:
        snapshot = await _read_snapshot(client, home, ledger, task_queue)
        lost = [_temporal_lost_message(home)] if is_temporal_lost(snapshot) else []
        lost += [_ledger_lost_message(home)] if ledger is not None and is_ledger_lost(snapshot) else []
        if lost and not accept_lost_state:
            raise ConfigurationError(lost[0])
        for each in lost:
            logger.warning("%s. That is accepted: leave out %s from now on", each.partition(". ")[0], ACCEPT_OPTION)
        if accept_lost_state and not lost:
            logger.warning("Nothing is lost: leave out %s, which would accept what is lost later, too", ACCEPT_OPTION)
        if ledger is not None:
            own = await ledger.bind(snapshot.temporal, complete_since=datetime.now(UTC) if lost else None)
            if own != snapshot.ledger_before:
                await _write_ledger_id(client, own)
    except PaymentUnavailableError as trouble:
        raise ConfigurationError(str(trouble)) from None
    except (RPCError, RuntimeError) as error:
        raise EmbeddedUnavailableError(f"The embedded Temporal under {home} can't be read: {error}") from error
    if snapshot.temporal != snapshot.temporal_before:
        _write_namespace_id(home, snapshot.temporal)


async def _read_snapshot(client: Client, home: Path, ledger: PaymentLedger | None, task_queue: str) -> StateSnapshot:
    if ledger is None:
        return StateSnapshot(temporal=(await _describe_namespace(client)).id, temporal_before=_read_namespace_id(home))
    found = await ledger.identity()
    # Temporal is read before the ledger: another worker that starts now binds the ledger, then Temporal, then pays.
    begun, paid = await _known_payments(client, task_queue, found.complete_since if found is not None else None)
    namespace = await _describe_namespace(client)
    return StateSnapshot(
        temporal=namespace.id,
        temporal_before=_read_namespace_id(home),
        begun=begun,
        ledger=await ledger.identity(),
        ledger_before=namespace.data.get(_LEDGER),
        missing_payment=paid if paid is not None and not await ledger.holds(paid) else None,
    )


async def _known_payments(client: Client, task_queue: str, since: datetime | None) -> tuple[bool, str | None]:
    """Whether there is any line workflow, and the id of the newest payment after `since` that Temporal knows.

    The newest is enough: a ledger only grows, so one that holds it holds all earlier ones. The search covers the lines
    that ended last, within limits of number and time, and logs a warning if it finds no payment within them.
    """
    lines = f"WorkflowType = '{LINE_WORKFLOW_TYPE}' AND TaskQueue = '{task_queue}'"
    if not (await client.count_workflows(lines, rpc_timeout=_RPC)).count:
        return False, None
    # The server lists what ended last first.
    ended = f"{lines} AND ExecutionStatus = 'Completed'"
    ended += f" AND CloseTime > '{since.isoformat()}'" if since is not None else ""
    searched = 0
    with anyio.move_on_after(_SEARCH_TIMEOUT):
        async for line in client.list_workflows(ended, limit=_MAX_LINES + 1, page_size=100, rpc_timeout=_RPC):
            if searched == _MAX_LINES:
                break
            handle = client.get_workflow_handle(line.id, run_id=line.run_id, result_type=LineOutcome)
            outcome = await handle.result(follow_runs=False, rpc_timeout=_RPC)
            searched += 1
            if outcome.status is LineStatus.PAID:
                return True, outcome.payment_id
        else:
            return True, None
    what = f"Of the {searched} lines that ended last on {task_queue} none was paid, and there are more"
    logger.warning("%s: whether the ledger holds the payments before them was not looked at", what)
    return True, None


async def _describe_namespace(client: Client) -> NamespaceInfo:
    request = DescribeNamespaceRequest(namespace=client.namespace)
    return (await client.workflow_service.describe_namespace(request, timeout=_RPC)).namespace_info


async def _write_ledger_id(client: Client, ledger: str) -> None:
    update = UpdateNamespaceInfo(data={_LEDGER: ledger})
    request = UpdateNamespaceRequest(namespace=client.namespace, update_info=update)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            await client.workflow_service.update_namespace(request, timeout=_RPC)
        except RPCError:
            # Of two concurrent updates of a namespace, one fails.
            if attempt == _ATTEMPTS:
                raise
        if (await _describe_namespace(client)).data.get(_LEDGER) == ledger:
            return
    raise RuntimeError("its namespace does not keep the id of the payment ledger")


def _namespace_id_file(home: Path) -> Path:
    return home / "temporal.id"


def _read_namespace_id(home: Path) -> str | None:
    try:
        return _namespace_id_file(home).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{_namespace_id_file(home)} can't be read: {error}") from None


def _write_namespace_id(home: Path, temporal: str) -> None:
    draft = home / f"temporal.id.{os.getpid()}"
    try:
        draft.touch(mode=0o600)
        draft.write_text(f"{temporal}\n", encoding="utf-8")
        draft.replace(_namespace_id_file(home))
    except OSError as error:
        raise ConfigurationError(f"{_namespace_id_file(home)} can't be written: {error}") from None


def _temporal_lost_message(home: Path) -> str:
    what = f"{database_path(home)} is missing, or another one than there was: what was paid is not known"
    return f"{what}. {_ADVICE} then the invoices it kept can be submitted, approved and paid again"


def _ledger_lost_message(home: Path) -> str:
    what = f"{ledger_path(home)} is missing, or knows less than {database_path(home)} does: what was paid is not known"
    return f"{what}. {_ADVICE} then lines that were paid may be paid again"
