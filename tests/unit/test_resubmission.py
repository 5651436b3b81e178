"""What may come back changed of an invoice of which something was paid."""

from __future__ import annotations

import pytest

from invoice_mcp.domain.errors import RefusedError
from invoice_mcp.domain.invoice import Invoice, idempotency_key
from invoice_mcp.domain.report import LineStatus, Status
from invoice_mcp.domain.resubmission import require_unchanged
from tests.requirements import requirement
from tests.tool_client import an_invoice
from tests.unit.testing.run_builders import a_run


@requirement("START-CONFLICT")
@pytest.mark.parametrize("customer", ["ACME", "acme", "ACME Corp"])
def test_whom_a_paid_invoice_is_for_may_not_change_even_in_case(customer: str) -> None:
    last = a_run(Status.FAILED, LineStatus.PAID).report
    assert last is not None
    invoice = Invoice.model_validate(an_invoice("A", customer=customer))
    settled = {"1": idempotency_key("A", 1, invoice.lines[0])}
    if customer == last.customer:
        require_unchanged(invoice, settled, last=last)
    else:
        with pytest.raises(RefusedError, match="comes back with changes: customer"):
            require_unchanged(invoice, settled, last=last)
