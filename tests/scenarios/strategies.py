"""Hypothesis strategies for scenarios: invoices with adversarial text or from Faker, and random action sequences."""

from __future__ import annotations

import unicodedata

from faker import Faker
from hypothesis import strategies as st

from invoice_mcp.testing import Action, Line, Scenario, Verb
from invoice_mcp.testing.model.actions import (
    ATTACKS,
    CLIENT_INTERFACES,
    ERP_FAULTS,
    PAYMENT_FAULTS,
    PROTOCOL_MODES,
    RESETS,
)

# How many decimals a currency's amounts have: none, two, three.
CURRENCIES = {"JPY": 0, "USD": 2, "EUR": 2, "KWD": 3}
NASTY = ["", "%s {0} {x!r}", "'; DROP TABLE payments; --", '{"json": [1]}', "<b>", "\\", "a\nb\tc"]
# Right to left, a combining mark, an emoji of several characters.
NASTY += ["\u05d0\u05d1\u05d2", "e\u0301", "\U0001f469\u200d\U0001f4bb"]

_fakers: dict[str, Faker] = {}


def _is_visible(char: str) -> bool:
    return unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"}


# A visible character first and last: blanks around are stripped.
texts = st.builds(
    lambda nasty, text, end: f"{end}{nasty}{text}{end}",
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs"]), max_size=20),
    st.characters(exclude_categories=["Cc", "Cf", "Cs"]).filter(_is_visible),
)

# Due dates in hours from the start: long past, around the decision, weeks and years ahead.
due_in_hours = st.one_of(
    st.integers(-3 * 365 * 24, -1),
    st.sampled_from([-1, 1, 30, 60, 119, 121, 24 * 30]),
    st.integers(1, 24 * 14),
    st.integers(24 * 300, 24 * 365 * 3),
).map(float)


@st.composite
def amounts(draw: st.DrawFn, currency: str) -> str:
    """An amount with at most the currency's decimals, from the smallest to a billion."""
    decimals = CURRENCIES[currency]
    minor = draw(st.one_of(st.integers(1, 10**6), st.integers(1, 10 ** (9 + decimals))))
    digits = str(minor).rjust(decimals + 1, "0")
    return f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits


@st.composite
def lines(draw: st.DrawFn, currency: str, most: int = 20) -> tuple[Line, ...]:
    """1 to 20 lines, mostly few."""
    size = draw(st.one_of(st.integers(1, 3), st.integers(1, 3), st.integers(1, most)))
    return tuple(
        Line(amount=draw(amounts(currency)), due_in_hours=draw(due_in_hours), description=draw(texts))
        for _ in range(size)
    )


@st.composite
def realistic_lines(draw: st.DrawFn) -> tuple[str, tuple[Line, ...]]:
    """A customer and lines from Faker."""
    faker = _fakers.setdefault("en_US", Faker("en_US"))
    faker.seed_instance(draw(st.integers(0, 2**32 - 1)))
    made = tuple(
        Line(
            amount=str(faker.pydecimal(left_digits=5, right_digits=2, positive=True, min_value=1)),
            due_in_hours=float(faker.random_int(-24 * 60, 24 * 90) or 1),
            description=faker.catch_phrase(),
        )
        for _ in range(faker.random_int(1, 5))
    )
    return faker.company(), made


# Mostly five days. The other values are not close to any sum of the hours below, since servers are not exact at the
# deadline.
WINDOWS = [120.0, 120.0, 120.0, 47.5, 24.0 * 90]
metadata = st.dictionaries(texts.filter(lambda text: len(text) <= 64), texts, max_size=2).map(
    lambda each: (*each.items(),)
)

HOURS = [0.5, 6, 24, 71, 118, 122, 24 * 31, 24 * 366]


@st.composite
def actions(draw: st.DrawFn, lines: int, verbs: frozenset[Verb], most: int = 8) -> tuple[Action, ...]:
    """A sequence over a random subset of these verbs (swarm testing)."""
    every = sorted(verbs)
    swarm = draw(st.lists(st.sampled_from(every), min_size=1, max_size=len(every), unique=True))
    one = st.builds(
        Action,
        verb=st.sampled_from(swarm),
        line=st.integers(1, lines),
        hours=st.sampled_from([float(hours) for hours in HOURS]),
    )
    return tuple(draw(st.lists(one, max_size=most)))


@st.composite
def before(draw: st.DrawFn, lines: int) -> tuple[Action, ...]:
    """Faults that are scripted before the invoice is submitted."""
    verb = st.sampled_from([*ERP_FAULTS[:1] * 3, *ERP_FAULTS, *PAYMENT_FAULTS])
    return tuple(draw(st.lists(st.builds(Action, verb=verb, line=st.integers(1, lines)), max_size=5)))


@st.composite
def scenarios(draw: st.DrawFn, *, eager: bool = False) -> Scenario:
    """Any scenario. An eager one lets no time pass."""
    if draw(st.booleans()):
        currency = draw(st.sampled_from(sorted(CURRENCIES)))
        customer, made = draw(texts), draw(lines(currency, most=6 if eager else 20))
    else:
        currency, (customer, made) = "USD", draw(realistic_lines())
    verbs = frozenset(Verb) - {*ATTACKS, *RESETS} - ({Verb.ADVANCE} if eager else set())
    return Scenario(
        customer=customer,
        currency=currency,
        lines=made,
        metadata=draw(metadata),
        changed_line=draw(st.integers(1, len(made))),
        changes=draw(st.sampled_from(["description", "amount", "due_date", "customer", "metadata"])),
        before=draw(before(len(made))),
        actions=draw(actions(len(made), verbs)),
        protocol_mode=draw(st.sampled_from(PROTOCOL_MODES)),
        client_interface=draw(st.sampled_from(CLIENT_INTERFACES)),
        approval_hours=draw(st.sampled_from(WINDOWS)),
        names_runs=draw(st.booleans()),
        eager=eager,
        seed=draw(st.integers(0, 2**16)) if eager else None,
    )
