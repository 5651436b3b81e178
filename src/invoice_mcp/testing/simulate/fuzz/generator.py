"""Draws scenarios by chance: the same one for the same seed and number, in any process, on any machine."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from invoice_mcp.testing.model.actions import (
    ATTACKS,
    CLIENT_INTERFACES,
    PAYMENT_FAULTS,
    PROTOCOL_MODES,
    RESETS,
    Action,
    Verb,
)
from invoice_mcp.testing.model.scenario import Line, Scenario

FAULTS: tuple[Verb, ...] = (
    Verb.ERP_DOWN,
    Verb.ERP_REFUSES,
    *PAYMENT_FAULTS,
    Verb.CRASH,
)
"""What can go wrong around an invoice: at the ERP, at the gateway, to the worker."""

_STEPS = tuple(verb for verb in Verb if verb not in {*FAULTS, *ATTACKS, *RESETS})
# What leads to the end of the longest lives, and round again: whatever else is done comes in between.
_SPINE = (
    (Verb.APPROVE, Verb.APPROVE, Verb.SIGNAL_APPROVE),
    (Verb.ADVANCE,),
    (Verb.TRIGGER, Verb.TRIGGER, Verb.TRIGGER_CHANGED),
    (Verb.APPROVE,),
    (Verb.ADVANCE,),
)
# A worker that crashes before there is anything it could lose is none of a scenario's beginnings; and an invoice that
# the ERP refuses does not live to see other faults.
_BEFORE = (Verb.ERP_DOWN, *3 * PAYMENT_FAULTS, Verb.ERP_REFUSES)
# How many of the invoices may be approved by signal; the others only by a tool or a task.
_SIGNALS_APPROVE = 0.6
# How many of the scenarios meet an attacker at Temporal's own API.
_ATTACKED = 0.3
# How many of them are reset.
_RESET = 0.1
_DECIMALS = {"USD": 2, "EUR": 2, "JPY": 0, "KWD": 3}
# Around the five days there are to decide, to both sides of the due dates drawn below, and over years.
_HOURS = (0.25, 1, 6, 24, 36, 71, 118, 119.99, 120, 120.01, 122, 24 * 31, 24 * 366)
_CUSTOMERS = (
    "ACME Corp",
    "Möller & Söhne GmbH",
    "株式会社 山田商店",
    "O'Brien Ltd.",
    "Świerk S.A.",
    "Dana <dana@example.com>",
)
_METADATA = (
    ("purchase_order", "4711"),
    ("cost center", ""),
    ("Ünïcode", "  blanks around  "),
    ("expected_total", "none"),
    ("note", 'a\nb\t"c"'),
)
# What only some scenarios have, and what part of them: lines with numbers of two digits, a line that is due in seconds,
# metadata, another time to decide (a second to 90 days), calls that name their run, a decision and a cancellation at
# once.
_MANY, _SOON, _WITH_METADATA, _OTHER_WINDOW, _NAMES_RUNS, _AT_ONCE = 0.005, 0.15, 0.3, 0.1, 0.3, 0.15
_SECONDS = (1, 10, 29, 30, 31, 61)
_WINDOWS = (1 / 3600, 6, 24 * 10, 24 * 90)
_CHANGES = ("description", "description", "amount", "due_date", "customer", "metadata")
_DECISIONS = (Verb.APPROVE, Verb.REJECT, Verb.SIGNAL_APPROVE, Verb.SIGNAL_REJECT)
_ARTICLES = (
    "Widget",
    "Consulting, 3 days",
    "Bolts M8 (1,000)",
    "Café crème",
    "Licence 100%",
    "{hosting}",
    "Ø 12 mm pipe",
)


@dataclass(frozen=True)
class GeneratorOptions:
    """How scenarios are drawn.

    Attributes:
        lines: The most lines of an invoice; but one in two hundred has 11 to 13, where there may be more than one.
        faults: Which there are.
        rate: What part of the actions are faults, between 0 and 1.
        actions: The most actions.
        haste: What part of the scenarios is played in haste, in an order of chance.
    """

    lines: int = 3
    faults: Collection[Verb] = FAULTS
    rate: float = 0.25
    actions: int = 8
    haste: float = 0.4


def generate_scenario(seed: int, run: int, options: GeneratorOptions) -> Scenario:
    """The scenario of one run."""
    chance = random.Random(f"{seed}/{run}")  # noqa: S311 (to be repeated, not to be secret)
    currency = chance.choice(list(_DECIMALS))
    lines = tuple(_line(chance, currency) for _ in range(_few(chance, options.lines)))
    is_hasty = chance.random() < options.haste
    # Swarm: what a run leaves out lets the rest of it go deeper.
    steps, faults = _some(chance, _STEPS), _some(chance, [verb for verb in FAULTS if verb in options.faults])
    actions = _actions(chance, steps, faults, options, len(lines))
    drawn = Scenario(
        customer=chance.choice(_CUSTOMERS),
        currency=currency,
        lines=lines,
        changed_line=chance.randint(1, len(lines)),
        before=_before(chance, [verb for verb in _BEFORE if verb in faults], options, len(lines)),
        actions=_attacked(f"{seed}/{run}/attacker", actions, options, is_hasty=is_hasty),
        protocol_mode=chance.choice(PROTOCOL_MODES),
        client_interface=chance.choice(CLIENT_INTERFACES),
        signals_approve=chance.random() < _SIGNALS_APPROVE,
        eager=is_hasty,
        seed=chance.randrange(2**16) if is_hasty else None,
    )
    return drawn.model_copy(update=_rarer(f"{seed}/{run}/rarer", drawn, options))


def _rarer(seed: str, drawn: Scenario, options: GeneratorOptions) -> dict[str, Any]:
    """What is otherwise in some of the scenarios; by a chance of its own, so that the rest is the same."""
    chance = random.Random(seed)  # noqa: S311 (to be repeated, not to be secret)
    lines = list(drawn.lines)
    if options.lines > 1 and chance.random() < _MANY:
        # Their numbers have two digits, and they may all be alike.
        more = [chance.choice(lines) for _ in range(chance.randint(11, 13))]
        lines = more if chance.random() < 0.5 else more[:1] * len(more)
    elif chance.random() < _SOON:
        which = chance.randrange(len(lines))
        lines[which] = lines[which].model_copy(update={"due_in_hours": chance.choice(_SECONDS) / 3600})
    actions = list(drawn.actions)
    if drawn.eager and len(actions) + 3 <= options.actions and chance.random() < _AT_ONCE:
        # While it waits: a decision, and a cancellation that comes in the same moment.
        decision, place = Action(verb=chance.choice(_DECISIONS)), chance.randint(0, min(1, len(actions)))
        actions[place:place] = [Action(verb=Verb.ADVANCE, hours=0.25), decision, Action(verb=Verb.CANCEL)]
    return {
        "lines": tuple(lines),
        "actions": tuple(actions),
        "metadata": tuple(chance.sample(_METADATA, chance.randint(1, 3))) if chance.random() < _WITH_METADATA else (),
        "changes": chance.choice(_CHANGES),
        "approval_hours": chance.choice(_WINDOWS) if chance.random() < _OTHER_WINDOW else drawn.approval_hours,
        "names_runs": chance.random() < _NAMES_RUNS,
    }


def _few(chance: random.Random, most: int) -> int:
    return chance.randint(1, chance.randint(1, most))


def _some(chance: random.Random, every: Sequence[Verb]) -> list[Verb]:
    return chance.sample(every, chance.randint(1, len(every))) if every else []


def _line(chance: random.Random, currency: str) -> Line:
    decimals = _DECIMALS[currency]
    minor = chance.randint(1, 10 ** chance.randint(1, 7 + decimals))
    digits = str(minor).rjust(decimals + 1, "0")
    return Line(
        amount=f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits,
        due_in_hours=_due(chance),
        description=chance.choice(_ARTICLES),
    )


def _due(chance: random.Random) -> float:
    """Past, near (before, at and after the time to decide ends), or far, in hours from now."""
    match chance.randrange(4):
        case 0:
            return float(-chance.randint(1, 24 * 700))
        case 1:
            return float(chance.choice((-1, 0.5, 1, 24, 36, 60, 119, 120, 121)))
        case 2:
            return float(chance.randint(1, 24 * 14))
        case _:
            return float(chance.randint(24 * 14, 24 * 500))


def _actions(
    chance: random.Random, steps: Sequence[Verb], faults: Sequence[Verb], options: GeneratorOptions, lines: int
) -> tuple[Action, ...]:
    """Any steps and faults, and part of the spine among them, in its order."""
    spine = [chance.choice(verbs) for verbs in _SPINE[: chance.randint(0, len(_SPINE))]][: options.actions]
    others = [
        chance.choice(faults if faults and chance.random() < options.rate else steps)
        for _ in range(chance.randint(0, options.actions - len(spine)))
    ]
    places = sorted(chance.choices(range(len(others) + 1), k=len(spine)), reverse=True)
    for place, verb in zip(places, reversed(spine), strict=True):
        others.insert(place, verb)
    return tuple(_action(chance, verb, lines) for verb in others)


def _attacked(
    seed: str, actions: tuple[Action, ...], options: GeneratorOptions, *, is_hasty: bool
) -> tuple[Action, ...]:
    """The same actions, now and then with attacks in between; by a chance of its own, so that the rest is the same."""
    chance = random.Random(seed)  # noqa: S311 (to be repeated, not to be secret)
    attacked = list(actions)
    if chance.random() < _ATTACKED:
        for _ in range(min(chance.randint(1, 3), options.actions - len(attacked))):
            attacked.insert(chance.randint(0, len(attacked)), Action(verb=chance.choice(ATTACKS)))
    if chance.random() < _RESET:
        # In haste what comes again depends on what an old run had been told, which no model can know.
        resets = RESETS[:1] if is_hasty else RESETS
        for _ in range(min(chance.randint(1, 2), options.actions - len(attacked))):
            attacked.insert(chance.randint(0, len(attacked)), Action(verb=chance.choice(resets)))
    return tuple(attacked)


def _action(chance: random.Random, verb: Verb, lines: int) -> Action:
    if verb is Verb.ADVANCE:
        return Action(verb=verb, hours=chance.choice(_HOURS))
    return Action(verb=verb, line=chance.randint(1, lines)) if verb in PAYMENT_FAULTS else Action(verb=verb)


def _before(chance: random.Random, faults: Sequence[Verb], options: GeneratorOptions, lines: int) -> tuple[Action, ...]:
    """Faults that are there when the invoice is submitted: mostly none, else up to as many as the ERP is asked."""
    if not faults or chance.random() >= 2 * options.rate:
        return ()
    return tuple(_action(chance, chance.choice(faults), lines) for _ in range(chance.randint(1, 5)))
