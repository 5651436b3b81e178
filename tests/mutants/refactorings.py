"""Mutants that preserve the behaviour of the workflows: an oracle that kills one raises a false alarm."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst
from libcst import matchers as m

from tests.mutants.generator import FILES, Mutant, every, source

Edits = tuple[tuple[str, str], ...]

_PAY_LINE = "    async def _pay_line("
_ALL_PAID = """\
    @staticmethod
    def _all_paid(statuses: set[LineStatus]) -> bool:
        return statuses == {LineStatus.PAID}

"""
_WAIT = """\
    async def _wait(self, settled: Any) -> None:
        await workflow.wait_condition(settled)

"""
_STATUS_QUERY = '    @workflow.query(name="GetInvoiceStatus")'
_CUSTOMER_QUERY = """\
    @workflow.query(name="GetCustomer")
    def customer(self) -> str:
        return self._invoice.customer

"""
_REJECT_SIGNAL = '    @workflow.signal(name="RejectInvoice",'
_REMIND_SIGNAL = """\
    @workflow.signal(name="Remind")
    def remind(self) -> None:
        workflow.logger.info("Somebody is waiting")

"""
_REJECT_UPDATE = "    @workflow.update\n    async def reject("
_LOOK_UPDATE = """\
    @workflow.update(name="look")
    def look(self) -> InvoiceReport:
        return self.report()

"""
_IMPORTS = "import asyncio\nfrom datetime import timedelta\nfrom functools import partial\n"
_IMPORTS_SHUFFLED = "from functools import partial\nfrom datetime import timedelta\nimport asyncio\n"
_STATUSES = "        statuses = {line.status for line in self._lines}\n"
_STATUSES_BY_LOOP = """\
        statuses = set()
        for line in self._lines:
            statuses.add(line.status)
"""
_TO_PAYING = "        self._move_to(Status.PAYING)\n"
_PATCHED_TIMER = """\
        if workflow.patched("breathe"):
            await workflow.sleep(0.001)
"""
_OTHER_RETRY = 'RetryPolicy(maximum_attempts=3, non_retryable_error_types=["INSUFFICIENT_FUNDS"])'

# Name, file, and pairs of a text that occurs once and its replacement.
REFACTORINGS: tuple[tuple[str, str, Edits], ...] = (
    (
        "a local variable renamed",
        "workflow/invoice_workflow.py",
        (("child = workflow.get_ext", "line = workflow.get_ext"), ("await child.cancel()", "await line.cancel()")),
    ),
    (
        "another local variable renamed",
        "workflow/line_workflow.py",
        (("receipt = payment.result()", "slip = payment.result()"), ("receipt.payment_id)", "slip.payment_id)")),
    ),
    (
        "a private method renamed",
        "workflow/invoice_workflow.py",
        (("async def _validate(self)", "async def _checked(self)"), ("self._validate() and", "self._checked() and")),
    ),
    (
        "a function extracted",
        "workflow/invoice_workflow.py",
        (("if statuses == {LineStatus.PAID}:", "if self._all_paid(statuses):"), (_PAY_LINE, _ALL_PAID + _PAY_LINE)),
    ),
    (
        "an async function extracted",
        "workflow/invoice_workflow.py",
        (
            ("workflow.wait_condition(settled)\n        except", "self._wait(settled)\n        except"),
            (_PAY_LINE, _WAIT + _PAY_LINE),
        ),
    ),
    ("a new query", "workflow/invoice_state.py", ((_STATUS_QUERY, _CUSTOMER_QUERY + _STATUS_QUERY),)),
    ("a new signal", "workflow/invoice_decisions.py", ((_REJECT_SIGNAL, _REMIND_SIGNAL + _REJECT_SIGNAL),)),
    ("a new update", "workflow/invoice_decisions.py", ((_REJECT_UPDATE, _LOOK_UPDATE + _REJECT_UPDATE),)),
    ("imports in another order", "workflow/invoice_workflow.py", ((_IMPORTS, _IMPORTS_SHUFFLED),)),
    (
        "an attribute more",
        "workflow/invoice_state.py",
        (
            (
                "self._cancelling = False\n        self._dismissals",
                "self._cancelling = self._seen = False\n        self._dismissals",
            ),
        ),
    ),
    ("a timer's summary", "workflow/invoice_workflow.py", (('summary="approval deadline"', 'summary="decide until"'),)),
    (
        "a default spelt out",
        "workflow/invoice_workflow.py",
        (
            (
                "initial_interval=timedelta(seconds=1), max",
                "initial_interval=timedelta(seconds=1), backoff_coefficient=2.0, max",
            ),
        ),
    ),
    (
        "a span of time in other units",
        "workflow/line_workflow.py",
        (("_ATTEMPT = timedelta(seconds=30)", "_ATTEMPT = timedelta(minutes=0.5)"),),
    ),
    ("a loop for a comprehension", "workflow/invoice_workflow.py", ((_STATUSES, _STATUSES_BY_LOOP),)),
    ("a timer more, patched", "workflow/invoice_workflow.py", ((_TO_PAYING, _PATCHED_TIMER + _TO_PAYING),)),
    (
        "another time-out, patched",
        "workflow/invoice_workflow.py",
        (
            (
                "_timeout=_VALIDATION_ATTEMPT",
                '_timeout=_VALIDATION_ATTEMPT * (2 if workflow.patched("patience") else 1)',
            ),
        ),
    ),
    (
        "another retry policy, patched",
        "workflow/line_workflow.py",
        (("retry_policy=_RETRY", f'retry_policy={_OTHER_RETRY} if workflow.patched("retry") else _RETRY'),),
    ),
)


def refactorings() -> Iterator[Mutant]:
    """Yield the refactorings above, a log line in each async function, and every docstring reworded."""
    for about, file, edits in REFACTORINGS:
        text = source(file).read_text(encoding="utf-8")
        for old, new in edits:
            assert text.count(old) == 1, f"{file}, {about}: {text.count(old)} matches of {old}"
            text = text.replace(old, new)
        yield Mutant("by hand", about, file, text, preserves_behaviour=True)
    for file in (each for each in FILES if each.startswith("workflow/")):
        module = cst.parse_module(source(file).read_text(encoding="utf-8"))
        for node in every(module):
            if isinstance(node, cst.FunctionDef) and node.asynchronous and isinstance(node.body, cst.IndentedBlock):
                log = cst.parse_statement(f'workflow.logger.info("in {node.name.value}")')
                logged = node.body.with_changes(body=[log, *node.body.body])
                edited = module.deep_replace(node.body, logged)
                assert isinstance(edited, cst.Module)
                yield Mutant(
                    "log line", f"a log line in {node.name.value}", file, edited.code, preserves_behaviour=True
                )
        reworded = module.visit(_Rewording())
        yield Mutant("docstring", "every docstring reworded", file, reworded.code, preserves_behaviour=True)


class _Rewording(cst.CSTTransformer):
    def leave_Expr(self, original_node: cst.Expr, updated_node: cst.Expr) -> cst.Expr:  # noqa: N802
        if m.matches(updated_node.value, m.SimpleString()):
            return updated_node.with_changes(value=cst.SimpleString('"""In other words."""'))
        return updated_node
