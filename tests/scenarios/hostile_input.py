"""Hypothesis strategies for hostile tool arguments: arbitrary values, and valid invoices with a few faults."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st

TOOLS: Final = {
    "trigger": ("invoice",),
    "status": ("workflow_id", "run_id", "wait_seconds"),
    "approve": ("workflow_id", "run_id", "approver", "comment"),
    "reject": ("workflow_id", "run_id", "approver", "reason"),
    "cancel": ("workflow_id", "run_id", "reason"),
    "list": ("status", "limit", "cursor"),
}
"""The parameters of each tool."""

# Placeholders for ids that are known only when the calls are made; see `Call.resolved`.
WAITING, WAITING_RUN = "<waiting>", "<its run>"
PAYING, PAYING_RUN = "<paying>", "<the other's run>"
OTHER_RUN = "<somebody else's>"
FRESH = "INV-FRESH"


class DeferredValue:
    """A value that is too large to be printed or shrunk. It is built only when it is sent."""

    def build(self) -> Any:
        """The value itself."""
        raise NotImplementedError


@dataclass(frozen=True)
class Repeated(DeferredValue):
    """A repeated text, or a list that repeats one item."""

    item: Any
    times: int

    def build(self) -> Any:
        """See `DeferredValue`."""
        return self.item * self.times


@dataclass(frozen=True)
class PowerOfTen(DeferredValue):
    """A power of ten. Python refuses to print integers with more than 4300 digits."""

    zeros: int

    def build(self) -> Any:
        """See `DeferredValue`."""
        return 10**self.zeros


@dataclass(frozen=True)
class Deep(DeferredValue):
    """A value nested in lists or objects."""

    depth: int
    leaf: Any = None
    in_objects: bool = False

    def build(self) -> Any:
        """See `DeferredValue`."""
        value = _build(self.leaf)
        for _ in range(self.depth):
            value = {"a": value} if self.in_objects else [value]
        return value


@dataclass(frozen=True)
class Wide(DeferredValue):
    """An object with many fields."""

    fields: int

    def build(self) -> Any:
        """See `DeferredValue`."""
        return {f"{number:x}": number for number in range(self.fields)}


@dataclass(frozen=True)
class Json(DeferredValue):
    """A value as JSON text, which clients send unchanged."""

    value: Any

    def build(self) -> Any:
        """See `DeferredValue`."""
        value = _build(self.value)
        try:
            return json.dumps(value)
        except (RecursionError, ValueError):
            return value


def _build(value: Any) -> Any:
    match value:
        case DeferredValue():
            return value.build()
        case dict():
            return {_build(key): _build(each) for key, each in value.items()}
        case list():
            return [_build(each) for each in value]
        case _:
            return value


@dataclass(frozen=True)
class Call:
    """A tool call with hostile arguments."""

    tool: Any
    arguments: Mapping[Any, Any]

    def resolved(self, names: Mapping[str, str]) -> Call:
        """The call with the current ids in place of the placeholders."""
        return Call(_build(self.tool), {key: _resolve(each, names) for key, each in _build(self.arguments).items()})


def _resolve(value: object, names: Mapping[str, str]) -> object:
    match value:
        case str():
            for stands_in, name in names.items():
                value = value.replace(stands_in, name)
            return value
        case float() if not math.isfinite(value):
            return None  # as every client sends it
        case {"invoice_id": str(invoice_id), **rest}:
            return {**rest, "invoice_id": _resolve(invoice_id, names)}
        case _:
            return value


# -- values ------------------------------------------------------------------------------------------------

_CLASSICS = (
    "", " ", "\x00", "a\x00b", "\u202egro.live", "\u200b", "\ufeff", "\ud800", "x\udfff", "\x1b[31m", "a\r\nb",
    "../../etc/passwd", "/", "%00", "%2e%2e%2f", "a b", "a\nb", "'; DROP TABLE invoices; --", "{0.__class__}", "%s%n",
    "${jndi:ldap://x}", "<script>", "null", "true", "[]", "{}", "[1]", '"x"', "NaN", "nan", "-inf", "1e999", "0x10",
    "\u2028", "ünïcödé", "\u0661\u0660\u0660", "\U0001f4b8", "None",
)  # fmt: skip
_LENGTHS = (65, 201, 256, 300, 501, 2001, 4097, 20_000, 300_000)
_NUMBERS = (0, -1, True, False, 2**53 + 1, -(2**63), 2**64, 10**15, 10**400, 0.1 + 0.2, -0.0, 5e-324, 1e308)
_NOT_NUMBERS = (float("nan"), float("inf"), float("-inf"))

texts: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(_CLASSICS),
    # With lone surrogates.
    st.text(st.characters(exclude_categories=()), max_size=20),
    st.builds(Repeated, st.sampled_from(("x", "-", "\x00", "é", "\U0001f4b8", "9", "[")), st.sampled_from(_LENGTHS)),
)
numbers: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(_NUMBERS + _NOT_NUMBERS),
    st.builds(PowerOfTen, st.sampled_from((4000, 5000, 100_000))),
    st.integers(),
    st.floats(),
)
_deep = st.builds(Deep, st.integers(2, 1200), st.none() | texts, st.booleans())
_wide = st.one_of(
    st.builds(Repeated, st.sampled_from(([None], [[]], [{}], ["x"])), st.sampled_from((501, 90_000))),
    st.builds(Wide, st.sampled_from((300, 20_000))),
)
_small = st.recursive(
    st.one_of(st.none(), texts, numbers),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
anything = st.one_of(_small, _small, _deep, _wide)

# -- arguments of the tools that take an id ------------------------------------------------------------------

_ids = st.one_of(
    st.sampled_from((WAITING, WAITING, WAITING, OTHER_RUN, f"{PAYING}-line-1", f"{PAYING}-line-2", FRESH)),
    st.sampled_from(
        (" {}", "{} ", "{}\n", "{}/", "../{}", "{}%00", "{}\x00", "{}-line-1", "invoice-{}", "{}\ud800")
    ).map(lambda around: around.format(WAITING)),
    texts,
    anything,
)
_run_ids = st.one_of(
    st.sampled_from((None, "", WAITING_RUN, PAYING_RUN, WAITING, "00000000-0000-4000-8000-000000000000")),
    texts,
    anything,
)
_waits = st.floats(0, 0.05) | anything.filter(lambda value: not _would_wait(value))


def _would_wait(value: object) -> bool:
    """Whether `status` would wait too long for a test with this value."""
    try:
        return isinstance(value, str | int | float) and 0.1 < float(value) <= 50
    except (ValueError, OverflowError):
        return False


_EACH = {
    "workflow_id": _ids,
    "run_id": _run_ids,
    "wait_seconds": _waits,
    "approver": texts | anything,
    "comment": texts | anything,
    "reason": texts | anything,
    "status": st.sampled_from(("PAID", "PENDING-APPROVAL", "LOST")) | anything,
    "limit": st.integers(-1, 102) | anything,
    "cursor": texts | anything,
}


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """A call of any tool but trigger, with missing, hostile and perhaps unknown arguments."""
    tool: Any = draw(st.sampled_from([tool for tool in TOOLS if tool != "trigger"]))
    wanted = {"workflow_id": WAITING} if "workflow_id" in TOOLS[tool] else {}
    hostile = draw(st.lists(st.sampled_from(TOOLS[tool]), unique=True, max_size=3))
    arguments: dict[str, Any] = {**wanted, **{name: draw(_EACH[name]) for name in hostile}}
    match draw(st.integers(0, 15)):
        case 0:
            arguments.pop("workflow_id", None)
        case 1:
            arguments |= draw(st.dictionaries(texts, anything, min_size=1, max_size=3))
        case 2:
            tool = draw(texts)
    return Call(tool, arguments)


# Pairs of a workflow id and a run id of different invoices.
strangers = st.builds(
    lambda tool, ids: Call(tool, {"workflow_id": ids[0], "run_id": ids[1]}),
    st.sampled_from(("status", "approve", "reject", "cancel")),
    st.sampled_from(((WAITING, PAYING_RUN), (PAYING, WAITING_RUN), (OTHER_RUN, WAITING_RUN))),
)

# -- invoices ------------------------------------------------------------------------------------------------

_AMOUNTS = (
    0, -1, "0", "-5", "+5", "1e3", "1,000", "1_000", " 7 ", "7.", ".7", "0.001", "1.000", "1." + "0" * 50, "9" * 15,
    "9" * 16, 10**15, 10**15 - 1, 99.999, 1e-7, 5e-324, True, "\uff11", "1\x00", "\u0661", "$5", "5 USD",
)  # fmt: skip
_DUES = (
    "2026-06-30", "2026-06-30T00:00:00", "2026-06-30T00:00", "2026-06-30T25:00:00Z", "2026-02-30T00:00:00Z", "tomorrow",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2999-12-31T23:59:59-23:59", "1900-01-01T00:00:00+23:59",
    "3000-01-01T00:00:00Z", "2026-06-30T00:00:00+99:99", "2026-06-30 00:00:00Z", "2026-06-30T00:00:00Z\n", "5", 5, 5e9,
    "2026-06-30T00:00:00Z\ud800", "+2026-06-30T00:00:00Z", "2026-06-30T00:00:00.123456789Z", "2026-W27-2T00:00Z",
)  # fmt: skip
_CURRENCIES = (
    "usd", "JPY", "BHD", "XAU", "XXX", "BTC", "US", "USDX", " USD",
    "\uff35\uff33\uff24", "u\u017fd", "usd\x00", None, 840,
)  # fmt: skip
_INVOICE_IDS = (
    f"{FRESH}-line-1", f"{FRESH}/", f"../{FRESH}", f"{FRESH}\n", f" {FRESH}", f"{FRESH}%00", f"{FRESH}\x00",
    f"{FRESH}\u202e", FRESH * 40, ".", "..", f"{FRESH}..", "é",
)  # fmt: skip
_FITTING = {
    "amount": st.sampled_from(_AMOUNTS),
    "due_date": st.sampled_from(_DUES),
    "currency": st.sampled_from(_CURRENCIES),
    "invoice_id": st.sampled_from(_INVOICE_IDS),
    "metadata": st.dictionaries(texts, texts, max_size=3),
    "lines": st.sampled_from(([], {}, "[]", [[]], [None], {"0": {}})),
}
_lines = st.builds(
    lambda text, amount, due: {"description": text, "amount": amount, "due_date": due},
    st.sampled_from(("Widget", "Ünïcödé\twidget", "x" * 500)),
    st.sampled_from((100, "100", 1, "7.00", 999_999)),
    st.sampled_from(("2024-06-30T00:00:00Z", "2090-06-30T00:00:00+02:00")),
)
_valid = st.builds(
    lambda customer, currency, lines, metadata: {
        "invoice_id": FRESH,
        "customer": customer,
        **({"currency": currency} if currency else {}),
        "lines": lines,
        **({"metadata": metadata} if metadata else {}),
    },
    st.sampled_from(("ACME Corp", "Müller\nund Söhne")),
    st.sampled_from(("", "USD", "eur", "CLF")),
    st.lists(_lines, min_size=1, max_size=3),
    st.dictionaries(
        st.sampled_from(("po", "k" * 64)), st.sampled_from(("1", "", "\x00\x1b\u202e", "x" * 4096)), max_size=2
    ),
)

_Path = tuple[str | int, ...]


def _places(value: object, path: _Path = ()) -> Iterator[_Path]:
    """The path to every part of a JSON value, the value itself last."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from _places(child, (*path, key))
    yield path


@st.composite
def broken_invoices(draw: st.DrawFn) -> Any:
    """A valid invoice with up to three faults."""
    whole = {"invoice": copy.deepcopy(draw(_valid))}
    for _ in range(draw(st.integers(0, 3))):
        # An earlier fault may have removed parts, or all of them.
        places = [place for place in _places(whole) if place]
        if not places:
            break
        *above, last = draw(st.sampled_from(places))
        holder: Any = whole
        for key in above:
            holder = holder[key]
        _break(draw, holder, last)
    return whole.get("invoice")


def _break(draw: st.DrawFn, holder: Any, key: str | int) -> None:
    match draw(st.sampled_from(("replace", "replace", "fit", "delete", "retype", "repeat", "rename", "add"))):
        case "delete":
            del holder[key]
        case "retype":
            holder[key] = draw(st.sampled_from((_listed, _keyed, Json, _printed, _nothing)))(holder[key])
        case "repeat" if isinstance(holder, list):
            holder.extend([holder[int(key)]] * draw(st.sampled_from((1, 20))))
        case "repeat" if isinstance(holder[key], str):
            holder[key] = Repeated(holder[key], draw(st.sampled_from((2, 60, 600, 300_000))))
        case "rename" if isinstance(holder, dict):
            holder[draw(texts | st.sampled_from((f"{key} ", f"{key}".upper(), f"{key}\x00")))] = holder.pop(key)
        case "add" if isinstance(holder[key], dict):
            holder[key][draw(texts)] = draw(anything)
        case "fit" if key in _FITTING:
            holder[key] = draw(_FITTING[str(key)])
        case _:
            holder[key] = draw(anything)


def _listed(value: object) -> object:
    return [value]


def _keyed(value: object) -> object:
    return {"value": value}


def _printed(value: object) -> object:
    return ascii(value) if not isinstance(value, int) else True


def _nothing(_: object) -> object:
    return None


submissions = st.one_of(
    broken_invoices().map(lambda invoice: Call("trigger", {"invoice": invoice})),
    broken_invoices().map(lambda invoice: Call("trigger", {"invoice": Json(invoice)})),
    anything.map(lambda invoice: Call("trigger", {"invoice": invoice})),
    st.builds(
        lambda more, invoice: Call("trigger", {**more, "invoice": invoice}), st.dictionaries(texts, _small), _valid
    ),
    st.dictionaries(texts, _small, max_size=3).map(lambda arguments: Call("trigger", arguments)),
)
