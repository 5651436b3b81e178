"""Which modules are edited beside the workflows, and which unit tests judge each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from tests.mutants.code_operators import CODE_OPERATORS
from tests.mutants.making import Mutant, Place, edits_of

_TASKS = ("tasks/test_answers.py", "tasks/test_generic.py", "tasks/test_responses.py", "tasks/test_ids.py")
_CONFIRMING, _AGAIN = "../scenarios/test_confirming.py", "../scenarios/test_submitting_again.py"
_CHECKER = ("testing/test_checker.py", "testing/test_checker_sides.py")
_MODEL = ("testing/test_model.py", "testing/test_model_races.py")
_REPLAY = ("../replay/test_strict.py", "../replay/test_shapes.py")

PRODUCT: Mapping[str, tuple[str, ...]] = {
    "activities.py": ("test_activities.py",),
    "approval.py": ("test_approval.py", _CONFIRMING),
    "calls.py": ("test_server.py",),
    "earlier_runs.py": ("test_earlier_runs.py", "test_server.py", _AGAIN),
    "erp.py": ("test_erp.py",),
    "invoice_task.py": ("test_server.py", "../scenarios/test_tasks.py"),
    "invoices.py": ("test_invoices.py", "test_question_keys.py"),
    "jsonrpc_input.py": ("test_jsonrpc_input.py",),
    "ledger.py": ("test_payments.py", "test_ledger.py", "test_backup.py"),
    "list_cursors.py": ("test_list_cursors.py",),
    "payments.py": ("test_payments.py",),
    "pending_lines.py": ("test_pending_lines.py", "test_activities.py"),
    "ports.py": ("test_temporal.py", "test_real_money.py", "test_erp.py", "test_state.py"),
    "probe.py": ("test_probe.py", "test_server.py"),
    "question_keys.py": ("test_question_keys.py",),
    "questions.py": ("test_summary.py", "test_server.py", _CONFIRMING),
    "reading.py": ("test_server.py", "../scenarios/test_listing.py"),
    "reports.py": ("test_reports.py", "test_summary.py"),
    "resubmission.py": ("test_resubmission.py", "test_server.py", _AGAIN),
    "service.py": ("test_server.py", "test_state.py", _AGAIN, _CONFIRMING),
    "startup.py": ("test_startup.py",),
    "stdio_streams.py": ("test_stdio_streams.py", "test_jsonrpc_input.py"),
    "summary.py": ("test_summary.py",),
    "tasks/_binding.py": _TASKS,
    "tasks/_client.py": ("tasks/test_client.py", "tasks/test_questions.py"),
    "tasks/_ending.py": _TASKS,
    "tasks/_finding.py": ("tasks/test_going_on.py", *_TASKS),
    "tasks/_ids.py": _TASKS,
    "tasks/_listening.py": ("tasks/test_listening.py",),
    "tasks/_questions.py": ("tasks/test_questions.py", "tasks/test_client.py"),
    "tasks/_reading.py": ("tasks/test_going_on.py", *_TASKS),
    "tasks/_responses.py": ("tasks/test_responses.py", "tasks/test_answers.py"),
    "tasks/_server.py": _TASKS,
    "tasks/_trouble.py": _TASKS,
    "tasks/workflow.py": ("tasks/test_going_on.py", *_TASKS),
}
"""Files of the package, and of each the unit tests below tests/unit that speak of it."""

HARNESS: Mapping[str, tuple[str, ...]] = {
    "testing/_checker.py": _CHECKER,
    "testing/_rules_of_content.py": ("testing/test_rules_of_content.py",),
    "testing/_rules_of_deciding.py": _CHECKER,
    "testing/_rules_of_money.py": _CHECKER,
    "testing/_rules_of_telling.py": (*_CHECKER, "testing/test_rules_of_content.py"),
    "testing/_trace.py": ("testing/test_trace.py", *_CHECKER),
    "testing/_model.py": _MODEL,
    "testing/_course.py": _MODEL,
    "testing/_states.py": _MODEL,
    "testing/histories/_comparing.py": _REPLAY,
    "testing/histories/_shapes.py": _REPLAY,
    "testing/histories/_values.py": _REPLAY,
}
"""The same for the judges among the harness's own files: checker, model, strict replay."""

OTHERS: Mapping[str, tuple[str, ...]] = {
    "decisions.py": ("test_decisions.py",),
    "embedded.py": ("test_embedded.py",),
    "line_workflow.py": ("test_line_outcomes.py",),
    "pending_lines.py": ("test_activities.py",),
    "workflows.py": ("test_summary.py",),
}
"""Of the other files that named edits are of."""


def tests_of(file: str) -> tuple[str, ...]:
    """The unit tests that judge edits of this file."""
    return tuple(f"tests/unit/{each}" for each in ({**PRODUCT, **HARNESS, **OTHERS}).get(file, ()))


def sample(files: Iterable[str], most: int | None) -> Iterator[Mutant]:
    """So many edits of each file, the same ones each time; None: all there are."""
    for file in files:
        yield from edits_of(file, CODE_OPERATORS, partial(_chosen, file=file, most=most))


def _chosen(places: list[Place], file: str, most: int | None) -> list[Place]:
    """By chance, but operators take turns: some have many more places than others."""
    if most is None:
        return places
    chance = random.Random(file)  # noqa: S311 (to be repeated, not to be secret)
    seen: Counter[str] = Counter()
    turns = []
    for place in chance.sample(places, len(places)):
        seen[place[0]] += 1
        turns.append((seen[place[0]], place))
    return [place for _, place in sorted(turns, key=lambda each: each[0])][:most]
