"""Scenarios as data: their printed forms, which play them again."""

from __future__ import annotations

import ast
import shlex
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from invoice_mcp.domain.invoice import Invoice
from invoice_mcp.testing import Action, EnvironmentPool, Line, ModelMismatchError, Scenario, Verb, kinds, play
from invoice_mcp.testing.model import model as _model
from invoice_mcp.testing.model import transitions as _course
from invoice_mcp.testing.model.actions import ACTION_ALPHABET
from invoice_mcp.testing.model.state import Span, State
from invoice_mcp.testing.simulate.fuzz import conformance as _playing
from tests.requirements import requirement

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOSTILE = [
    "plain",
    'it\'s "quoted" \'\'\'thrice\'\'\' """twice"""',
    "{braces} {0} {{}} {customer!r} %s %(x)s",
    "back\\slash \\n \\",
    "two\nlines\tand a tab",
    "$(touch pwned) `touch pwned` ; touch pwned # !!",
    "Zoë 株式会社 🧾 \u2028 \u00a0",
    "-- --help",
    "word " * 60,
]


def hostile(text: str) -> Scenario:
    return Scenario(
        customer=text,
        lines=(Line(description=text), Line(description=text + text, amount="1.50", due_in_hours=2)),
        before=(Action(verb=Verb.ERP_DOWN), Action(verb=Verb.ANSWER_LOST, line=2)),
        actions=tuple(Action(verb=verb) for verb in Verb),
    )


# -- printing --------------------------------------------------------------------------------------------------


def test_a_scenario_is_shown_as_its_actions() -> None:
    scenario = Scenario(
        before=(Action(verb=Verb.PAYMENT_DOWN, line=2),),
        actions=(Action(verb=Verb.SIGNAL_APPROVE), Action(verb=Verb.ADVANCE, hours=1.5), Action(verb=Verb.CRASH)),
    )
    assert str(scenario) == "payment-down-2 trigger signal-approve advance-1.5h crash"
    assert str(Scenario()) == "trigger"


def test_no_two_letters_read_alike() -> None:
    assert len({str(letter) for letter in ACTION_ALPHABET}) == len(ACTION_ALPHABET)


@pytest.mark.parametrize("verb", Verb)
def test_every_verb_can_be_written_as_python(verb: Verb) -> None:
    ast.parse(f"async def scenario():\n    {Action(verb=verb).code.replace(chr(10), chr(10) + '    ')}")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("world", kinds())
def test_any_scenario_is_printed_as_python_with_the_same_invoice(text: str, world: str) -> None:
    scenario = hostile(text)
    tree = ast.parse(scenario.as_code(world))
    (written,) = (node.args[0] for node in calls_in(tree) if ast.unparse(node.func) == "Scenario.model_validate")
    same = Scenario.model_validate(ast.literal_eval(written))
    assert same.invoices("A", NOW) == scenario.invoices("A", NOW)


def calls_in(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("world", kinds())
def test_the_command_has_any_scenario_as_one_shell_argument(text: str, world: str) -> None:
    scenario = hostile(text)
    *program, told = shlex.split(scenario.command(world))
    assert program == ["python", "-m", "invoice_mcp.testing", f"--world={world}"]
    assert Scenario.model_validate_json(told) == scenario


def test_a_command_leaves_out_defaults() -> None:
    assert shlex.split(Scenario(eager=True).command())[-1] == '{"eager":true}'


@pytest.mark.parametrize("hours", [119.9999999, 1 / 3, 123456.7])
def test_the_program_lets_as_much_time_pass_as_the_scenario(hours: float) -> None:
    tree = ast.parse(Action(verb=Verb.ADVANCE, hours=hours).code.removeprefix("await "))
    (written,) = (word.value for node in calls_in(tree) for word in node.keywords)
    assert ast.literal_eval(written) == hours


def test_the_changed_invoice_is_another_one_in_the_line_that_is_named() -> None:
    for changed_line, differs in ((1, 0), (2, 1), (9, 1)):
        drafts = Scenario(changed_line=changed_line).invoices("A", NOW)
        one, other = (Invoice.model_validate(draft) for draft in drafts)
        assert [a == b for a, b in zip(one.lines, other.lines, strict=True)] == [differs != 0, differs != 1]
        assert (one.invoice_id, one.customer) == (other.invoice_id, other.customer)


def test_lines_are_due_so_long_after_the_scenario_begins() -> None:
    draft, _ = Scenario(lines=(Line(due_in_hours=-1), Line(due_in_hours=60))).invoices("A", NOW)
    due = [line.due_date - NOW for line in Invoice.model_validate(draft).lines]
    assert due == [timedelta(hours=-1), timedelta(hours=60)]


@pytest.mark.parametrize(
    "wrong",
    [{"verb": "pay"}, {"verb": "advance", "hours": 0}, {"verb": "approve", "line": 0}, {"verb": "crash", "x": 1}],
)
def test_an_action_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Action.model_validate(wrong)


# -- playing ---------------------------------------------------------------------------------------------------


@requirement("HARNESS-REPRODUCE")
async def test_a_model_mismatch_shows_how_to_play_the_scenario_again(
    invoice_environments: EnvironmentPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_course, "_PAYMENT_ATTEMPTS", 1)
    monkeypatch.setattr(_playing, "_REPORT_TIMEOUT", 0.3)
    scenario = Scenario(lines=(Line(),), before=(Action(verb=Verb.PAYMENT_DOWN),), actions=(Action(verb=Verb.APPROVE),))
    with pytest.raises(
        ModelMismatchError, match=r"expected FAILED .*, got P.*\nafter payment-down-1, trigger, approve"
    ) as violated:
        await play(invoice_environments, scenario)
    (note,) = violated.value.__notes__
    assert scenario.command(invoice_environments.kind.name) in note
    assert "await world.approve()" in note


async def test_an_answer_that_the_model_does_not_allow_is_reported(
    invoice_environments: EnvironmentPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = _model.Model.allowed_answers

    def wrong(self: _model.Model, action: Action, when: Span) -> dict[str, frozenset[State]]:
        answers = allowed(self, action, when)
        return {"NOT_FOUND": answers[_model.OK]} if action.verb is Verb.CANCEL else answers

    monkeypatch.setattr(_model.Model, "allowed_answers", wrong)
    with pytest.raises(ModelMismatchError, match="expected NOT_FOUND, got OK\nafter trigger, cancel"):
        await play(invoice_environments, Scenario(actions=(Action(verb=Verb.CANCEL),)))


async def test_in_an_eager_scenario_an_answer_is_judged_without_later_actions(
    real_invoice_environments: EnvironmentPool,
) -> None:
    actions = tuple(Action(verb=verb) for verb in (Verb.CANCEL, Verb.TRIGGER))
    await play(real_invoice_environments, Scenario(actions=actions, eager=True))
