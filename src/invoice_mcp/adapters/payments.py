"""The payment system: the port through which a line is paid, and its adapter over HTTP."""

from __future__ import annotations

from typing import Protocol

import httpx2

from invoice_mcp.adapters.http import JsonEndpoint, NoVerdictError
from invoice_mcp.domain.report import PaymentOrder, PaymentReceipt

MAX_PAYMENT_ID = 200
_MAX_CODE = 64
_ECHOED = ("idempotency_key", "invoice_id", "line", "amount", "currency")


class PaymentRefusedError(Exception):
    """The final word against a request: it paid nothing, and asking again won't change that.

    Where an earlier request with the same key was left without a verdict, that one may have paid all the same: some
    systems refuse a key that comes again, rather than to repeat their answer.

    Attributes:
        code: A stable name for it, such as INSUFFICIENT_FUNDS.
        reason: Why, in printable words, fit for a report.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"


class PaymentUnavailableError(Exception):
    """No verdict: the payment may or may not have been made. Asking again with the same key is safe."""


class Payments(Protocol):
    """Where a line is paid."""

    async def pay(self, order: PaymentOrder) -> PaymentReceipt:
        """Pay once: however often the same key is asked for, it is one payment with one payment id.

        No other payment has that id. A receipt that tells another key than the order's is taken for none.

        Raises:
            PaymentRefused: It is not paid by this request, for good.
            PaymentUnavailable: It may or may not have been paid; ask again.
        """
        ...


class HttpPayments:
    """A gateway behind `POST {base_url}/payments`, which is sent the order as JSON and its key as `Idempotency-Key`.

    Each request has a connection of its own, which is closed after the answer. An answer should echo the key, in the
    header `Idempotency-Key` or the field `idempotency_key`; it may echo `invoice_id`, `line`, `amount` and `currency`
    as well. Whatever of that it has must be as it was sent: else it is the answer to something else, and no verdict.

    A 2xx with `{"payment_id": "..."}` is the receipt, but for 202, which is no verdict: accepted is not paid. Each
    payment has an id of its own. A 4xx with a `"code"` is a refusal, for its `"reason"` or `"error"`; without a code,
    402 means INSUFFICIENT_FUNDS and any other PAYMENT_REFUSED. 409 says that the same key is just being worked on, or
    was used before: no verdict. What speaks of the set-up (401, 403, 404, 405, 407, a redirect) or of the moment (408,
    425, 429, 5xx, the network, an answer too slow, too long or unreadable) is no verdict, code or not.

    Args:
        base_url: http or https; a user and password in it are sent as basic authentication.
        client: A client to use instead of an own one; whoever made it closes it.
        timeout: Seconds for a whole payment.

    Raises:
        ValueError: `base_url` is no such URL.
    """

    def __init__(self, base_url: str, *, client: httpx2.AsyncClient | None = None, timeout: float = 10.0) -> None:
        self._remote = JsonEndpoint("the payment gateway", base_url, "/payments", timeout=timeout, client=client)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._remote.aclose()

    async def pay(self, order: PaymentOrder) -> PaymentReceipt:
        """As `Payments.pay`."""
        try:
            answer = await self._remote.post(
                order.model_dump(mode="json"),
                about={name: getattr(order, name) for name in _ECHOED},
                headers={"Idempotency-Key": order.idempotency_key},
            )
        except NoVerdictError as error:
            raise PaymentUnavailableError(str(error)) from error
        reason = answer.text("reason", "error") or f"the payment gateway answered {answer.status}"
        if answer.status < 400:
            payment_id = (answer.body or {}).get("payment_id")
            if not isinstance(payment_id, str) or not _is_usable(payment_id):
                raise PaymentUnavailableError(
                    f"the payment gateway answered {answer.status} without a usable payment_id"
                )
            return PaymentReceipt(payment_id=payment_id)
        code = answer.text("code", max_length=_MAX_CODE)
        if answer.status == 409:
            # Also with a code: gateways name the conflict of a key with our own earlier attempt.
            raise PaymentUnavailableError(f"the same payment may be under way already: {reason}")
        raise PaymentRefusedError(code or ("INSUFFICIENT_FUNDS" if answer.status == 402 else "PAYMENT_REFUSED"), reason)


def _is_usable(payment_id: str) -> bool:
    # It is kept as it is or not at all: a shortened id would name no payment.
    return bool(payment_id.strip()) and payment_id.isprintable() and len(payment_id) <= MAX_PAYMENT_ID
