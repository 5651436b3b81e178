"""Edits by hand that must not matter: about, file, and what is written instead of what (each is there once)."""

from __future__ import annotations

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

SAFE_EDITS: tuple[tuple[str, str, Edits], ...] = (
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
