"""Invoices as submitted, and their validation. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
import unicodedata
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import iso4217
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from invoice_mcp.domain.display_text import is_invisible, plain_or_quoted, printable

MAX_LINES = 500
MAX_INVOICE_ID = 64
MAX_NAME = 500
MAX_COMMENT = 2000
_MAX_FAULTS = 20
MAX_INVOICE_BYTES = 256 * 1024

_DECIMALS: dict[str, int] = {c.code: c.exponent for c in iso4217.Currency if c.exponent is not None}
_AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]+)?")
_AMOUNT_LIMIT = 10**15
_LARGEST_FLOAT = 10.0 ** (sys.float_info.dig - max(_DECIMALS.values()))
_DATE_AND_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:")
# The only invisible characters needed to write names; with others, different names look alike.
_JOINERS = frozenset("\u200c\u200d")
# Line breaks in some programs, invisible in others.
_SEPARATORS = frozenset("\u2028\u2029")
# Ids of child workflows read `<workflow id>-line-<n>`; an invoice id must not produce one.
_LINE_SUFFIX = re.compile(r"-line-[0-9]+$")
_LATEST_DUE_YEAR = 2999


def _require_visible(text: str) -> str:
    for char in text:
        if char not in "\n\t" and char not in _JOINERS and unicodedata.category(char) in {"Cc", "Cf"}:
            raise PydanticCustomError(
                "invisible_character", "must not contain the invisible character {char}", {"char": f"U+{ord(char):04X}"}
            )
    return text


def _require_not_blank(text: str) -> str:
    if not text.strip("".join(_JOINERS)):
        raise PydanticCustomError("blank", "must not be blank")
    return text


def _to_amount(value: object) -> object:
    """Parse 100, 99.95 or "99.95". Other types are returned as they are: Pydantic refuses them."""
    match value:
        case bool() | Decimal():
            return value
        case int():
            text = str(value) if abs(value) < _AMOUNT_LIMIT else ""
        case float():
            text = _exact_text(value) if math.isfinite(value) else ""
        case str():
            text = value.strip()
        case _:
            return value
    if not _AMOUNT.fullmatch(text):
        raise PydanticCustomError("amount", "must be a positive decimal number such as 100 or 99.95")
    return Decimal(text)


def _exact_text(value: float) -> str:
    """The number as written. Above the limit, adding the smallest unit of a currency may not change a float."""
    if value >= _LARGEST_FLOAT:
        raise PydanticCustomError(
            "amount_digits", 'is larger than JSON numbers with decimals are exact: write it as text, such as "99.95"'
        )
    return format(Decimal(repr(value)), "f")


def _to_due_date(value: object) -> object:
    # Pydantic would parse 5 or "5" as seconds since 1970: a typing error must not become a due date.
    if not isinstance(value, datetime) and not (isinstance(value, str) and _DATE_AND_TIME.match(value)):
        raise PydanticCustomError(
            "due_date", "must be an ISO 8601 date and time with a zone, such as 2026-06-30T00:00:00Z"
        )
    return value


def _to_utc(value: datetime) -> datetime:
    if not 1900 <= value.year <= _LATEST_DUE_YEAR:
        raise PydanticCustomError(
            "due_date_range", "must lie between the years 1900 and {latest}", {"latest": _LATEST_DUE_YEAR}
        )
    return value.astimezone(UTC)


def _to_currency(value: object) -> object:
    # ASCII only: `upper` maps some other letters to ASCII, for example U+017F, the long s.
    code = value.upper() if isinstance(value, str) and value.isascii() else ""
    if code not in _DECIMALS:
        raise PydanticCustomError("currency", "must be an ISO 4217 currency code such as USD, EUR or JPY")
    return code


def _to_metadata(value: object) -> object:
    """Convert a list of `{"key": ..., "value": ...}` to an object, and null to an empty one.

    Some serializers, and hosts whose schemas have no optional fields, write null for no metadata.
    """
    if value is None:
        return {}
    if not isinstance(value, list):
        return value
    if not all(isinstance(pair, dict) and pair.keys() == _PAIR.keys() for pair in value):
        raise PydanticCustomError("metadata_pair", "must be an object, or a list of objects with key and value")
    keys = [pair["key"] for pair in value]
    if not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
        raise PydanticCustomError("metadata_key", "must have texts as keys, and none of them twice")
    return {pair["key"]: pair["value"] for pair in value}


def _require_no_line_suffix(invoice_id: str) -> str:
    if _LINE_SUFFIX.search(invoice_id):
        raise PydanticCustomError("invoice_id_reserved", "must not end in -line-<number>, which names a line's payment")
    return invoice_id


def _require_legible(text: str) -> str:
    if fault := _legibility_fault(text):
        raise PydanticCustomError("illegible", "{fault}", {"fault": fault})
    return text


def _require_one_line(text: str) -> str:
    if "\n" in text:
        raise PydanticCustomError("line_break", "must not contain a line break")
    return text


def _legibility_fault(text: str) -> str | None:
    """Why a person could not read this text; None if one can."""
    if text and is_invisible(text):
        return "must show something: all of its characters are invisible"
    separator = next((char for char in text if char in _SEPARATORS), None)
    return f"must not contain the invisible character U+{ord(separator):04X}" if separator else None


Amount = Annotated[Decimal, Field(gt=0, description="Amount to pay, above zero"), BeforeValidator(_to_amount)]
DueDate = Annotated[AwareDatetime, BeforeValidator(_to_due_date), AfterValidator(_to_utc)]
InvoiceId = Annotated[
    str,
    StringConstraints(pattern=rf"^[A-Za-z0-9._-]{{1,{MAX_INVOICE_ID}}}$"),
    AfterValidator(_require_no_line_suffix),
]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_NAME),
    AfterValidator(_require_visible),
    AfterValidator(_require_not_blank),
]
Person = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=200),
    AfterValidator(_require_visible),
    AfterValidator(_require_one_line),
    AfterValidator(_require_legible),
]
Comment = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_COMMENT),
    AfterValidator(_require_visible),
    AfterValidator(_require_legible),
]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_require_visible)]
MetadataValue = Annotated[str, StringConstraints(max_length=4096)]
# Strict hosts reject the schema of an object with arbitrary names, so the schema is a list of pairs. Both are accepted.
_PAIR = {"key": {"type": "string"}, "value": {"type": "string"}}
_PAIRS = {
    "type": "array",
    "items": {"type": "object", "properties": _PAIR, "required": list(_PAIR), "additionalProperties": False},
}
Metadata = Annotated[
    dict[MetadataKey, MetadataValue], Field(max_length=64), BeforeValidator(_to_metadata), WithJsonSchema(_PAIRS)
]


class _Submitted(BaseModel):
    """Input of a person or an agent. An unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LineItem(_Submitted):
    """One line of an invoice. Each is paid on its own due date."""

    description: Name = Field(description="What is paid for")
    amount: Amount
    due_date: DueDate = Field(description="When to pay, ISO 8601 with a zone; a past date means as soon as approved")


class Invoice(_Submitted):
    """An invoice as submitted.

    Raises:
        pydantic.ValidationError: Names every fault of the invoice, not only the first.
    """

    invoice_id: InvoiceId = Field(description="The invoice's own number; the same id is the same invoice")
    customer: Name = Field(description="Whom the invoice is for")
    currency: Annotated[str, BeforeValidator(_to_currency)] = Field(
        default="USD", description="ISO 4217 code; default USD", validate_default=True
    )
    # The number of lines is checked with the amounts: Pydantic's own check counts valid lines only.
    lines: tuple[LineItem, ...] = Field(json_schema_extra={"minItems": 1, "maxItems": MAX_LINES})
    metadata: Metadata = Field(
        default_factory=dict, description="Carried to the ERP untouched: pairs, or an object of texts. Default: none"
    )

    @field_validator("lines", mode="wrap")
    @classmethod
    def _amounts_fit_the_currency(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> tuple[LineItem, ...]:
        if isinstance(value, list | tuple) and not 1 <= len(value) <= MAX_LINES:
            raise PydanticCustomError("line_count", "must hold 1 to {most} lines", {"most": MAX_LINES})
        # Checked on the raw lines, so that wrong decimals are reported together with all other faults.
        faults = _decimal_faults(value, info.data.get("currency"))
        try:
            lines: tuple[LineItem, ...] = handler(value)
        except ValidationError as error:
            faults = [_error_detail(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors()] + faults
            raise ValidationError.from_exception_data("lines", faults) from None
        if faults:
            raise ValidationError.from_exception_data("lines", faults)
        decimals = _DECIMALS.get(info.data.get("currency", ""))
        return tuple(line.model_copy(update={"amount": _quantized(line.amount, decimals)}) for line in lines)

    @property
    def total(self) -> Decimal:
        """Sum of the lines, in the invoice's currency and with the currency's decimals."""
        return sum((line.amount for line in self.lines), Decimal(0))

    @property
    def content_digest(self) -> str:
        """SHA-256, in hex, of the whole content. Equal digests mean the same submission."""
        return _digest(self.model_dump(mode="json"))


def legibility_faults(invoice: Invoice) -> str:
    """Names in the invoice that a person could not read, in the form of `describe_faults`; empty if there are none.

    Checked for new invoices only, not by the type: release 0.1.0 accepted such names, and an invoice that it accepted
    must still be recognized when it is submitted again, validated and paid.
    """
    lines = ((f"lines[{at}].description", line.description) for at, line in enumerate(invoice.lines))
    keys = ((f"metadata.{plain_or_quoted(key, 64)}", key) for key in invoice.metadata)
    texts = (("customer", invoice.customer), *lines, *keys)
    return _join_faults([f"{place}: {fault}" for place, text in texts if (fault := _legibility_fault(text))])


def _error_detail(loc: tuple[int | str, ...], kind: str, message: str) -> InitErrorDetails:
    # The message is final text: Pydantic must not replace braces in it.
    return InitErrorDetails(type=PydanticCustomError(kind, "{text}", {"text": message}), loc=loc, input=None)


def _decimal_faults(lines: object, currency: str | None) -> list[InitErrorDetails]:
    """Amounts with more decimals than their currency has. Other faults of a line are reported elsewhere."""
    faults: list[InitErrorDetails] = []
    if currency is None or not isinstance(lines, list | tuple):
        return faults
    decimals = _DECIMALS[currency]
    for index, line in enumerate(lines):
        raw = line.get("amount") if isinstance(line, dict) else getattr(line, "amount", None)
        try:
            amount = _to_amount(raw)
        except PydanticCustomError:
            continue
        if isinstance(amount, Decimal) and amount.is_finite() and amount != _quantized(amount, decimals):
            message = f"{currency} amounts have at most {decimals} decimals"
            faults.append(_error_detail((index, "amount"), "decimals", message))
    return faults


def _quantized(amount: Decimal, decimals: int | None) -> Decimal:
    return amount if decimals is None else amount.quantize(Decimal(1).scaleb(-decimals))


def _digest(content: object) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def idempotency_key(invoice_id: str, number: int, line: BaseModel) -> str:
    """The key of one payment: SHA-256, in hex, of invoice id, line number (from 1) and line content.

    It is the same in every run of the invoice.

    Args:
        line: A `LineItem` or an `AcceptedLine`: the same content has the same key.
    """
    return _digest([invoice_id, number, line.model_dump(mode="json")])


_MESSAGES = {
    "decimal_type": "must be a positive decimal number such as 100 or 99.95",
    "extra_forbidden": "unknown field",
    "dict_type": "must be an object",
    "missing": "is required",
    "model_type": "must be an object",
    "string_pattern_mismatch": f"must be 1 to {MAX_INVOICE_ID} letters, digits, '.', '_' or '-'",
    "timezone_aware": "must have a zone, such as Z or +02:00",
    "tuple_type": "must be a list",
}


def describe_faults(error: ValidationError, *, below: tuple[int | str, ...] = (), limit: int = _MAX_FAULTS) -> str:
    """The faults of a validation as one line of text: `lines[0].amount: must be …; …`.

    Args:
        below: Prefix to remove from the locations of the faults.
        limit: The most faults to list; the rest are counted.
    """
    faults = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        is_below = len(fault["loc"]) > len(below) and fault["loc"][: len(below)] == below
        loc = fault["loc"][len(below) :] if is_below else fault["loc"]
        # The name of an unknown field is the caller's text.
        place = "".join(
            f"[{part}]" if isinstance(part, int) else f".{plain_or_quoted(part, 64)}" for part in loc
        ).lstrip(".")
        message = printable(_MESSAGES.get(fault["type"], fault["msg"]), 120)
        faults.append(f"{place}: {message}" if place else message)
    return _join_faults(faults, limit)


def _join_faults(faults: list[str], limit: int = _MAX_FAULTS) -> str:
    more = len(faults) - limit
    return "; ".join(faults[:limit]) + (f"; and {more} more" if more > 0 else "")
