"""Edits that must not matter: whoever flags one of them cries wolf."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst
from libcst import matchers as m

from tests.mutants.making import PACKAGE, Mutant, every

# About, file, and what is written instead of what. Each of the old texts is there once.
EDITS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("a local variable renamed", "workflows.py", (("child = workflow.get_ext", "line_workflow = workflow.get_ext"),
                                                  ("await child.cancel()", "await line_workflow.cancel()"))),
    ("another local variable renamed", "line_workflow.py", (("receipt = payment.result()", "slip = payment.result()"),
                                                            ("receipt.payment_id)", "slip.payment_id)"))),
    ("a private method renamed", "workflows.py", (("async def _validate(self)", "async def _checked(self)"),
                                                  ("await self._validate() and", "await self._checked() and"))),
    ("a function extracted", "workflows.py", (
        ("        if statuses == {LineStatus.PAID}:\n", "        if self._all_paid(statuses):\n"),
        ("    async def _pay_line(", "    @staticmethod\n    def _all_paid(statuses: set[LineStatus]) -> bool:\n"
                                    "        return statuses == {LineStatus.PAID}\n\n    async def _pay_line("),
    )),
    ("an async function extracted", "workflows.py", (
        ("            await workflow.wait_condition(settled)\n        except", "            await self._wait(settled)\n"
                                                                             "        except"),
        ("    async def _pay_line(", "    async def _wait(self, settled: Any) -> None:\n"
                                    "        await workflow.wait_condition(settled)\n\n    async def _pay_line("),
    )),
    ("a new query", "workflows.py", (
        ('    @workflow.query(name="GetInvoiceStatus")', '    @workflow.query(name="GetCustomer")\n'
         "    def customer(self) -> str:\n        return self._invoice.customer\n\n"
         '    @workflow.query(name="GetInvoiceStatus")'),
    )),
    ("a new signal", "workflows.py", (
        ('    @workflow.signal(name="RejectInvoice")', '    @workflow.signal(name="Remind")\n'
         '    def remind(self) -> None:\n        workflow.logger.info("Somebody is waiting")\n\n'
         '    @workflow.signal(name="RejectInvoice")'),
    )),
    ("a new update", "workflows.py", (
        ('    @workflow.update(name="reject")', '    @workflow.update(name="look")\n'
         "    def look(self) -> InvoiceReport:\n        return self.report()\n\n"
         '    @workflow.update(name="reject")'),
    )),
    ("imports in another order", "workflows.py", (
        ("import asyncio\nfrom datetime import datetime, timedelta\nfrom typing import Any\n",
         "from typing import Any\nfrom datetime import timedelta, datetime\nimport asyncio\n"),
    )),
    ("an attribute more", "workflows.py", (("        self._cancelling = False\n        self._orders",
                                            "        self._cancelling = False\n        self._seen = 0\n        self._orders"),)),
    ("a timer's summary", "workflows.py", (('timeout_summary="approval deadline"', 'timeout_summary="decide until"'),)),
    ("defaults spelt out", "workflows.py", (("initial_interval=timedelta(seconds=1), maximum",
                                             "initial_interval=timedelta(seconds=1), backoff_coefficient=2.0, maximum"),)),
    ("a span of time in other units", "line_workflow.py", (("_ATTEMPT = timedelta(seconds=30)",
                                                            "_ATTEMPT = timedelta(minutes=0.5)"),)),
    ("a loop for a comprehension", "workflows.py", (
        ("        statuses = {line.status for line in self._lines}\n",
         "        statuses = set()\n        for line in self._lines:\n            statuses.add(line.status)\n"),
    )),
    ("a timer more, patched", "workflows.py", (
        ("        self._move_to(Status.PAYING)\n", '        if workflow.patched("breathe"):\n'
         "            await workflow.sleep(0.001)\n        self._move_to(Status.PAYING)\n"),
    )),
    ("another time-out, patched", "workflows.py", (
        ("            start_to_close_timeout=_VALIDATION_ATTEMPT,\n",
         "            start_to_close_timeout=timedelta(seconds=60 if workflow.patched(\"patience\") else 30),\n"),
    )),
    ("another retry policy, patched", "line_workflow.py", (
        ("            retry_policy=_RETRY,\n", "            retry_policy=RetryPolicy(maximum_attempts=3, "
         'non_retryable_error_types=["INSUFFICIENT_FUNDS"]) if workflow.patched("retry") else _RETRY,\n'),
    )),
)  # fmt: skip


def safe() -> Iterator[Mutant]:
    """Every edit that must not matter: those above, a log line in each function, every docstring reworded."""
    for about, file, edits in EDITS:
        text = (PACKAGE / file).read_text(encoding="utf-8")
        for old, new in edits:
            assert text.count(old) == 1, f"{file}, {about}: it is there {text.count(old)} times: {old}"
            text = text.replace(old, new)
        yield Mutant("by hand", about, file, text, is_safe=True)
    for file in ("workflows.py", "line_workflow.py"):
        module = cst.parse_module((PACKAGE / file).read_text(encoding="utf-8"))
        for node in every(module):
            if isinstance(node, cst.FunctionDef) and node.asynchronous and isinstance(node.body, cst.IndentedBlock):
                log = cst.parse_statement(f'workflow.logger.info("in {node.name.value}")')
                logged = node.body.with_changes(body=[log, *node.body.body])
                edited = module.deep_replace(node.body, logged)
                assert isinstance(edited, cst.Module)
                yield Mutant("log line", f"a log line in {node.name.value}", file, edited.code, is_safe=True)
        reworded = module.visit(_Rewording())
        yield Mutant("docstring", "every docstring reworded", file, reworded.code, is_safe=True)


class _Rewording(cst.CSTTransformer):
    def leave_Expr(self, original_node: cst.Expr, updated_node: cst.Expr) -> cst.Expr:  # noqa: ARG002, N802
        if m.matches(updated_node.value, m.SimpleString()):
            return updated_node.with_changes(value=cst.SimpleString('"""In other words."""'))
        return updated_node
