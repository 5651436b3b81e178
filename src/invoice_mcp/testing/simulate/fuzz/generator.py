"""Generates random scenarios. A seed and a run number give the same scenario in any process, on any machine.

Uses swarm testing (Groce, Zhang, Eide, Chen and Regehr, "Swarm Testing", ISSTA 2012): each scenario uses a random
subset of the features. Features that compete are then used alone in some scenarios, and deeper states are reached than
if every scenario used all of them.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from invoice_mcp.testing.model.actions import (
    ATTACKS,
    CLIENT_INTERFACES,
    FAULTS,
    PAYMENT_FAULTS,
    PROTOCOL_MODES,
    RESETS,
    Action,
    Verb,
)
from invoice_mcp.testing.model.scenario import Line, Scenario

_STEPS = tuple(verb for verb in Verb if verb not in {*FAULTS, *ATTACKS, *RESETS})
# The longest path: submitted, approved, paid, submitted once more, and so on. Other actions are inserted between these.
_BACKBONE = (
    (Verb.APPROVE, Verb.APPROVE, Verb.SIGNAL_APPROVE),
    (Verb.ADVANCE,),
    (Verb.TRIGGER, Verb.TRIGGER, Verb.TRIGGER_CHANGED),
    (Verb.APPROVE,),
    (Verb.ADVANCE,),
)
# Faults before the invoice is submitted. There is no crash: the worker has nothing to lose yet. Payment faults are more
# likely than a refusal by the ERP, after which no other fault can occur.
_INITIAL_FAULTS = (Verb.ERP_DOWN, *3 * PAYMENT_FAULTS, Verb.ERP_REFUSES)
# Share of the scenarios in which signals may approve; in the others only a tool or a task does.
_SIGNALS_APPROVE = 0.6
# Share of the scenarios with an attacker at Temporal's own API, and with resets.
_ATTACKED, _RESET = 0.3, 0.1
_DECIMALS = {"USD": 2, "EUR": 2, "JPY": 0, "KWD": 3}
# Around the five days for the decision, before and after the due dates that `_due` generates, and over years.
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
# Shares of the scenarios with rare features: more than ten lines (line numbers of two digits), a line due within
# seconds, metadata, another time for the decision (a second to 90 days), calls that name their run, a decision and a
# cancellation at the same time.
_MANY_LINES, _DUE_SOON, _WITH_METADATA, _OTHER_TIMEOUT, _NAMES_RUNS, _SIMULTANEOUS = 0.005, 0.15, 0.3, 0.1, 0.3, 0.15
_SECONDS = (1, 10, 29, 30, 31, 61)
_TIMEOUT_HOURS = (1 / 3600, 6, 24 * 10, 24 * 90)
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
    """What scenarios are generated from.

    Attributes:
        lines: The most lines of an invoice. Where it is above one, one invoice in two hundred has 11 to 13 lines.
        faults: The kinds of faults.
        fault_rate: Share of the actions that are faults, from 0 to 1.
        actions: The most actions.
        eager_share: Share of the scenarios that do not wait for quiescence between actions, with a random schedule.
    """

    lines: int = 3
    faults: Collection[Verb] = FAULTS
    fault_rate: float = 0.25
    actions: int = 8
    eager_share: float = 0.4


def generate_scenario(seed: int, run: int, options: GeneratorOptions) -> Scenario:
    """The scenario of one run."""
    rng = random.Random(f"{seed}/{run}")  # noqa: S311 (reproducible, not secret)
    currency = rng.choice(list(_DECIMALS))
    lines = tuple(_line(rng, currency) for _ in range(_small_count(rng, options.lines)))
    is_eager = rng.random() < options.eager_share
    # Swarm testing: a subset of the steps, and a subset of the faults.
    steps, faults = _subset(rng, _STEPS), _subset(rng, [verb for verb in FAULTS if verb in options.faults])
    actions = _actions(rng, steps, faults, options, len(lines))
    scenario = Scenario(
        customer=rng.choice(_CUSTOMERS),
        currency=currency,
        lines=lines,
        changed_line=rng.randint(1, len(lines)),
        before=_initial_faults(rng, [verb for verb in _INITIAL_FAULTS if verb in faults], options, len(lines)),
        actions=_with_attacks(f"{seed}/{run}/attacker", actions, options, is_eager=is_eager),
        protocol_mode=rng.choice(PROTOCOL_MODES),
        client_interface=rng.choice(CLIENT_INTERFACES),
        signals_approve=rng.random() < _SIGNALS_APPROVE,
        eager=is_eager,
        seed=rng.randrange(2**16) if is_eager else None,
    )
    return scenario.model_copy(update=_rare_features(f"{seed}/{run}/rarer", scenario, options))


def _rare_features(seed: str, scenario: Scenario, options: GeneratorOptions) -> dict[str, Any]:
    """Updates of a scenario with features that few scenarios have. Its own generator leaves the others unchanged."""
    rng = random.Random(seed)  # noqa: S311 (reproducible, not secret)
    lines = list(scenario.lines)
    if options.lines > 1 and rng.random() < _MANY_LINES:
        # Line numbers have two digits, and all lines may be equal.
        more = [rng.choice(lines) for _ in range(rng.randint(11, 13))]
        lines = more if rng.random() < 0.5 else more[:1] * len(more)
    elif rng.random() < _DUE_SOON:
        index = rng.randrange(len(lines))
        lines[index] = lines[index].model_copy(update={"due_in_hours": rng.choice(_SECONDS) / 3600})
    actions = list(scenario.actions)
    if scenario.eager and len(actions) + 3 <= options.actions and rng.random() < _SIMULTANEOUS:
        # While the invoice waits for its decision: a decision and a cancellation at the same time.
        decision, place = Action(verb=rng.choice(_DECISIONS)), rng.randint(0, min(1, len(actions)))
        actions[place:place] = [Action(verb=Verb.ADVANCE, hours=0.25), decision, Action(verb=Verb.CANCEL)]
    return {
        "lines": tuple(lines),
        "actions": tuple(actions),
        "metadata": tuple(rng.sample(_METADATA, rng.randint(1, 3))) if rng.random() < _WITH_METADATA else (),
        "changes": rng.choice(_CHANGES),
        "approval_hours": rng.choice(_TIMEOUT_HOURS) if rng.random() < _OTHER_TIMEOUT else scenario.approval_hours,
        "names_runs": rng.random() < _NAMES_RUNS,
    }


def _small_count(rng: random.Random, most: int) -> int:
    """From 1 to `most`; small numbers are more likely."""
    return rng.randint(1, rng.randint(1, most))


def _subset(rng: random.Random, every: Sequence[Verb]) -> list[Verb]:
    """A random subset, not empty unless there is nothing to choose from."""
    return rng.sample(every, rng.randint(1, len(every))) if every else []


def _line(rng: random.Random, currency: str) -> Line:
    decimals = _DECIMALS[currency]
    minor = rng.randint(1, 10 ** rng.randint(1, 7 + decimals))
    digits = str(minor).rjust(decimals + 1, "0")
    return Line(
        amount=f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits,
        due_in_hours=_due(rng),
        description=rng.choice(_ARTICLES),
    )


def _due(rng: random.Random) -> float:
    """Hours until a due date: past, near the deadline of the decision, within two weeks, or far."""
    match rng.randrange(4):
        case 0:
            return float(-rng.randint(1, 24 * 700))
        case 1:
            return float(rng.choice((-1, 0.5, 1, 24, 36, 60, 119, 120, 121)))
        case 2:
            return float(rng.randint(1, 24 * 14))
        case _:
            return float(rng.randint(24 * 14, 24 * 500))


def _actions(
    rng: random.Random, steps: Sequence[Verb], faults: Sequence[Verb], options: GeneratorOptions, lines: int
) -> tuple[Action, ...]:
    """Random steps and faults, with the beginning of the backbone inserted in its order."""
    backbone = [rng.choice(verbs) for verbs in _BACKBONE[: rng.randint(0, len(_BACKBONE))]][: options.actions]
    verbs = [
        rng.choice(faults if faults and rng.random() < options.fault_rate else steps)
        for _ in range(rng.randint(0, options.actions - len(backbone)))
    ]
    places = sorted(rng.choices(range(len(verbs) + 1), k=len(backbone)), reverse=True)
    for place, verb in zip(places, reversed(backbone), strict=True):
        verbs.insert(place, verb)
    return tuple(_action(rng, verb, lines) for verb in verbs)


def _with_attacks(
    seed: str, actions: tuple[Action, ...], options: GeneratorOptions, *, is_eager: bool
) -> tuple[Action, ...]:
    """The actions, in some scenarios with attacks and resets inserted. Its own generator leaves the rest unchanged."""
    rng = random.Random(seed)  # noqa: S311 (reproducible, not secret)
    attacked = list(actions)
    if rng.random() < _ATTACKED:
        for _ in range(min(rng.randint(1, 3), options.actions - len(attacked))):
            attacked.insert(rng.randint(0, len(attacked)), Action(verb=rng.choice(ATTACKS)))
    if rng.random() < _RESET:
        # In eager scenarios only resets that reapply nothing: the model can't know which events the old run has.
        resets = RESETS[:1] if is_eager else RESETS
        for _ in range(min(rng.randint(1, 2), options.actions - len(attacked))):
            attacked.insert(rng.randint(0, len(attacked)), Action(verb=rng.choice(resets)))
    return tuple(attacked)


def _action(rng: random.Random, verb: Verb, lines: int) -> Action:
    if verb is Verb.ADVANCE:
        return Action(verb=verb, hours=rng.choice(_HOURS))
    return Action(verb=verb, line=rng.randint(1, lines)) if verb in PAYMENT_FAULTS else Action(verb=verb)


def _initial_faults(
    rng: random.Random, faults: Sequence[Verb], options: GeneratorOptions, lines: int
) -> tuple[Action, ...]:
    """Faults before the invoice is submitted: mostly none, else up to five, the number of attempts at the ERP."""
    if not faults or rng.random() >= 2 * options.fault_rate:
        return ()
    return tuple(_action(rng, rng.choice(faults), lines) for _ in range(rng.randint(1, 5)))
