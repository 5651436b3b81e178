"""The embedded state as a whole: Temporal's database and the payment ledger, and what each remembers of the other.

Each knows something of what was paid that the other can't tell. So neither begins anew while the other goes on:

* The ledger keeps the id of the Temporal namespace it pays for (`PaymentLedger.bind`).
* The Temporal namespace keeps the id of its ledger, in its `data`.
* The home keeps the id of the Temporal namespace, in `temporal.id`: with a real gateway there is no ledger.

A namespace's id is made with its database, and stays with it and with every copy of it.
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
from invoice_mcp.domain.report import LineOutcome, LineStatus
from invoice_mcp.temporal.embedded import EmbeddedUnavailableError

logger = logging.getLogger(__name__)

ACCEPT_OPTION = "--accept-lost-state"
"""The option by which a user goes on with what is left."""

_BOTH = "temporal.db, and payments.db where there was one,"
_ADVICE = f"Stop everything and restore {_BOTH} from one backup; or go on with {ACCEPT_OPTION}:"
_LEDGER = "invoice-mcp-ledger"
_RPC = timedelta(seconds=10)
_ATTEMPTS = 3
# How many lines, and for how many seconds, are asked for the newest payment: a start must not take for ever.
_MOST_LINES = 500
_ASKS_FOR = 15.0


def database_path(home: Path) -> Path:
    """The file of the embedded Temporal's database."""
    return home / "temporal.db"


@dataclass(frozen=True)
class StateSnapshot:
    """What the parts of the state know, when a worker starts.

    Attributes:
        temporal: Id of the Temporal namespace that answers.
        temporal_before: Id of the one that this home had, None where it remembers none.
        begun: Whether that Temporal has begun to pay any line on this worker's task queue.
        ledger: The payment ledger there is, None where there is none.
        ledger_before: Id of the ledger that Temporal remembers, None where it remembers none.
        missing_payment: The newest payment that Temporal knows of on this queue, where the ledger does not hold it.
    """

    temporal: str
    temporal_before: str | None = None
    begun: bool = False
    ledger: LedgerIdentity | None = None
    ledger_before: str | None = None
    missing_payment: str | None = None


def is_temporal_lost(known: StateSnapshot) -> bool:
    """Whether there was another Temporal database, whose invoices this one does not know. Pure."""
    if known.temporal_before not in {None, known.temporal}:
        return True
    if known.ledger is None or not known.ledger.payments:
        return False
    # A ledger of release 0.1.0 is bound to none: a Temporal that paid nothing is not the one that it paid for.
    return known.ledger.temporal != known.temporal if known.ledger.temporal else not known.begun


def is_ledger_lost(known: StateSnapshot) -> bool:
    """Whether payments that this Temporal had made may be missing in the ledger there is. Pure."""
    if known.missing_payment is not None:
        return True
    found = known.ledger.id if known.ledger is not None else None
    return found != known.ledger_before if known.ledger_before is not None else found is None and known.begun


async def require_database(home: Path) -> None:
    """See that Temporal's database is where it was, before a server would make a new one in its place.

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
    """Have the embedded Temporal, the home and the ledger remember each other, before a worker pays.

    Args:
        client: Of the embedded Temporal.
        ledger: Into which the worker pays; None where a real gateway pays.
        task_queue: Of the worker.
        accept_lost_state: Go on with what is left, where one of them begins anew.

    Raises:
        ConfigurationError: One of them begins anew although the other knows of payments, or can't be read.
        EmbeddedUnavailableError: Temporal does not answer.
    """
    try:
        known = await _read_snapshot(client, home, ledger, task_queue)
        lost = [_temporal_lost_message(home)] if is_temporal_lost(known) else []
        lost += [_ledger_lost_message(home)] if ledger is not None and is_ledger_lost(known) else []
        if lost and not accept_lost_state:
            raise ConfigurationError(lost[0])
        for each in lost:
            logger.warning("%s. That is accepted: leave out %s from now on", each.partition(". ")[0], ACCEPT_OPTION)
        if accept_lost_state and not lost:
            logger.warning("Nothing is lost: leave out %s, which would accept what is lost later, too", ACCEPT_OPTION)
        if ledger is not None:
            own = await ledger.bind(known.temporal, complete_since=datetime.now(UTC) if lost else None)
            if own != known.ledger_before:
                await _write_ledger_id(client, own)
    except PaymentUnavailableError as trouble:
        raise ConfigurationError(str(trouble)) from None
    except (RPCError, RuntimeError) as error:
        raise EmbeddedUnavailableError(
            f"The embedded Temporal under {home} does not tell what it knows: {error}"
        ) from error
    if known.temporal != known.temporal_before:
        _write_namespace_id(home, known.temporal)


async def _read_snapshot(client: Client, home: Path, ledger: PaymentLedger | None, task_queue: str) -> StateSnapshot:
    if ledger is None:
        return StateSnapshot(temporal=(await _describe_namespace(client)).id, temporal_before=_read_namespace_id(home))
    found = await ledger.identity()
    # Temporal before the ledger: another worker that starts now binds the ledger, then tells Temporal, then pays.
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
    """Whether any line was begun to be paid, and the id of the newest payment, after `since`, that Temporal knows of.

    The newest is enough: a ledger only grows, so one that holds it holds all before it. It is looked for among the
    lines that ended last, so many and so long as a start may take; a warning says so where none of them was paid.
    """
    lines = f"WorkflowType = 'PayLineItem' AND TaskQueue = '{task_queue}'"
    if not (await client.count_workflows(lines, rpc_timeout=_RPC)).count:
        return False, None
    # The server lists what ended last first.
    ended = f"{lines} AND ExecutionStatus = 'Completed'"
    ended += f" AND CloseTime > '{since.isoformat()}'" if since is not None else ""
    asked = 0
    with anyio.move_on_after(_ASKS_FOR):
        async for line in client.list_workflows(ended, limit=_MOST_LINES + 1, page_size=100, rpc_timeout=_RPC):
            if asked == _MOST_LINES:
                break
            handle = client.get_workflow_handle(line.id, run_id=line.run_id, result_type=LineOutcome)
            outcome = await handle.result(follow_runs=False, rpc_timeout=_RPC)
            asked += 1
            if outcome.status is LineStatus.PAID:
                return True, outcome.payment_id
        else:
            return True, None
    what = f"Of the {asked} lines that ended last on {task_queue} none was paid, and there are more"
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
            # Two updates of a namespace at the same time: one of them fails.
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
