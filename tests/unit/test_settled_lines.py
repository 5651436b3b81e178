"""What a report of a run that was reset tells of the runs before it. The rest is in tests/scenarios/test_reset.py."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowQueryFailedError

from invoice_mcp.domain.report import InvoiceReport, LineStatus, Status
from invoice_mcp.domain.summary import with_summary
from invoice_mcp.service import settled_lines
from invoice_mcp.service.settled_lines import _earlier_runs, fetch_report_or_none, mark_settled
from tests.requirements import requirement
from tests.unit.testing.run_builders import a_run

ENDED = " Its workflow was ended from outside (TERMINATED) and does not go on."


def a_report(status: Status, *lines: LineStatus) -> InvoiceReport:
    report = a_run(status, *lines).report
    assert report is not None
    return with_summary(report)


@requirement("ATTACK-RESET")
@pytest.mark.parametrize("end", ["", ENDED])
def test_lines_that_earlier_runs_settled_are_told(end: str) -> None:
    report = a_report(Status.EXPIRED, LineStatus.NOT_PAID, LineStatus.NOT_PAID)
    assert "; nothing was paid." in report.summary
    told = mark_settled(report.model_copy(update={"summary": report.summary + end}), {"2": "its key"})
    assert [line.settled_before for line in told.lines] == [False, True]
    assert told.summary.endswith(f"nothing more was paid; earlier submissions paid, or perhaps paid: line 2.{end}")


@requirement("ATTACK-RESET", "PAY-UNCONFIRMED")
def test_a_line_that_an_earlier_run_settled_is_not_refused_for_certain() -> None:
    report = a_report(Status.FAILED, LineStatus.FAILED, LineStatus.FAILED)
    refused = [line.model_copy(update={"error": "NO_FUNDS", "unconfirmed": False}) for line in report.lines]
    told = mark_settled(report.model_copy(update={"lines": tuple(refused)}), {"1": "its key"})
    assert [(line.error, line.unconfirmed) for line in told.lines] == [("NO_FUNDS", True), ("NO_FUNDS", False)]
    assert "not paid: line 2 (NO_FUNDS); not confirmed, perhaps paid: line 1 (NO_FUNDS)" in told.summary


def test_where_nothing_was_settled_the_report_stays_as_it_is() -> None:
    report = a_report(Status.FAILED, LineStatus.FAILED, LineStatus.PAID)
    assert mark_settled(report, {}) == report


@requirement("ATTACK-RESET")
async def test_earlier_runs_are_those_under_the_same_id_the_oldest_first() -> None:
    def a_run_at(hour: int, workflow_id: str = "invoice-A") -> Any:
        start = datetime(2026, 11, 23, hour, tzinfo=UTC)
        return SimpleNamespace(id=workflow_id, run_id=f"{workflow_id} {hour}", start_time=start)

    class Server:
        async def list_workflows(self, query: str) -> AsyncIterator[Any]:
            wanted = re.findall("WorkflowId = '([^']*)'", query)
            # As the server lists them: the newest first.
            for run in (a_run_at(4), newest, a_run_at(2), a_run_at(1, "invoice-B"), a_run_at(1)):
                if not wanted or run.id in wanted:
                    yield run

    newest, client = a_run_at(3), cast(Any, Server())
    assert [run.run_id for run in await _earlier_runs(client, newest)] == ["invoice-A 1", "invoice-A 2"]


@pytest.mark.parametrize("status", [WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.TERMINATED])
async def test_only_a_failed_run_may_have_no_report(
    monkeypatch: pytest.MonkeyPatch, status: WorkflowExecutionStatus
) -> None:
    async def can_not_answer(*_: Any) -> NoReturn:
        raise WorkflowQueryFailedError("no state")

    monkeypatch.setattr(settled_lines, "fetch_run_report", can_not_answer)
    client = cast(Any, None)
    failed = SimpleNamespace(status=WorkflowExecutionStatus.FAILED)
    assert await fetch_report_or_none(client, cast(Any, failed)) is None
    with pytest.raises(WorkflowQueryFailedError):
        await fetch_report_or_none(client, cast(Any, SimpleNamespace(status=status)))
