"""The mutated files of product and harness, and the unit tests of each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from tests.mutants.code_operators import CODE_OPERATORS
from tests.mutants.generator import Mutant, Place, edits_of

_TASKS = ("tasks/test_answers.py", "tasks/test_generic.py", "tasks/test_responses.py", "tasks/test_ids.py")
_CONFIRMATION, _RESUBMISSION = "../scenarios/test_confirmation.py", "../scenarios/test_resubmission_scenarios.py"
_CANCELLING = "../scenarios/test_cancellation.py"
_RESETS = "../scenarios/test_reset_to_the_beginning.py"
_CHECKER = ("testing/test_checker.py", "testing/test_checker_consistency.py")
_MODEL = ("testing/test_model.py", "testing/test_model_races.py")
_REPLAY = ("../replay/test_strict.py", "../replay/test_command_kinds.py")

PRODUCT: Mapping[str, tuple[str, ...]] = {
    "workflow/activities.py": ("test_activities.py",),
    "server/approval_policy.py": ("test_approval_policy.py",),
    "server/confirmation.py": ("test_approval_policy.py", _CONFIRMATION),
    "service/errors.py": ("test_service_errors.py", "test_server.py"),
    "service/settled_lines.py": ("test_settled_lines.py", "test_server.py", _RESUBMISSION, _RESETS),
    "adapters/erp.py": ("test_erp.py",),
    "server/task.py": ("test_server.py", "../scenarios/test_tasks.py"),
    "domain/invoice.py": ("test_invoices.py", "test_form_keys.py", "test_tool_schemas.py"),
    "server/transport/jsonrpc.py": ("test_jsonrpc_input.py",),
    "adapters/ledger.py": ("test_payments.py", "test_ledger.py", "test_backup.py"),
    "service/list_cursors.py": ("test_list_cursors.py",),
    "adapters/payments.py": ("test_payments.py",),
    "workflow/parent_lookup.py": ("test_parent_lookup.py", "test_activities.py"),
    "adapters/settings.py": ("test_temporal.py", "test_real_money.py", "test_erp.py", "test_state_binding.py"),
    "temporal/probe.py": ("test_probe.py", "test_server.py"),
    "service/form_keys.py": ("test_form_keys.py",),
    "server/forms.py": ("test_forms.py", "test_summary.py", "test_server.py", _CONFIRMATION),
    "service/queries.py": ("test_server.py", "../scenarios/test_listing.py"),
    "domain/report.py": ("test_reports.py", "test_summary.py"),
    "domain/resubmission.py": ("test_resubmission.py", "test_server.py", _RESUBMISSION),
    "service/invoice_service.py": (
        "test_server.py",
        "test_state_binding.py",
        _RESUBMISSION,
        _CONFIRMATION,
        _CANCELLING,
    ),
    "server/startup.py": ("test_startup.py",),
    "server/transport/stdio.py": ("test_stdio_streams.py", "test_jsonrpc_input.py"),
    "domain/summary.py": ("test_summary.py",),
    "mcp_temporal_tasks/binding.py": _TASKS,
    "mcp_temporal_tasks/client/client.py": ("tasks/test_client.py", "tasks/test_prompts.py"),
    "mcp_temporal_tasks/server/outcome.py": _TASKS,
    "mcp_temporal_tasks/server/lookup.py": ("tasks/test_lookup.py", "tasks/test_run_chains.py", *_TASKS),
    "mcp_temporal_tasks/ids.py": _TASKS,
    "mcp_temporal_tasks/server/subscriptions.py": ("tasks/test_subscriptions.py",),
    "mcp_temporal_tasks/client/prompts.py": ("tasks/test_prompts.py", "tasks/test_client.py"),
    "mcp_temporal_tasks/server/tasks.py": ("tasks/test_run_chains.py", *_TASKS),
    "mcp_temporal_tasks/server/responses.py": ("tasks/test_responses.py", "tasks/test_answers.py"),
    "mcp_temporal_tasks/server/extension.py": ("tasks/test_lookup.py", *_TASKS),
    "mcp_temporal_tasks/errors.py": ("tasks/test_errors.py", *_TASKS),
    "mcp_temporal_tasks/workflow.py": ("tasks/test_run_chains.py", *_TASKS),
}
"""Files of the product, and the unit tests of each, below tests/unit."""

HARNESS: Mapping[str, tuple[str, ...]] = {
    "testing/checker/checker.py": _CHECKER,
    "testing/checker/content.py": ("testing/test_checker_content.py",),
    "testing/checker/decisions.py": _CHECKER,
    "testing/checker/payments.py": _CHECKER,
    "testing/checker/consistency.py": (*_CHECKER, "testing/test_checker_content.py"),
    "testing/checker/history.py": ("testing/test_history.py", *_CHECKER),
    "testing/model/model.py": _MODEL,
    "testing/model/transitions.py": _MODEL,
    "testing/model/state.py": _MODEL,
    "temporal_replay/commands/diff.py": _REPLAY,
    "temporal_replay/commands/schema.py": _REPLAY,
    "temporal_replay/commands/values.py": _REPLAY,
}
"""The same for checker, model and strict replay."""

OTHER_FILES: Mapping[str, tuple[str, ...]] = {
    "domain/decision.py": ("test_decisions.py",),
    "temporal/embedded.py": ("test_embedded.py",),
    "domain/line_outcomes.py": ("test_line_outcomes.py",),
    "workflow/line_workflow.py": ("test_line_outcomes.py",),
    "workflow/invoice_workflow.py": ("test_summary.py",),
    "workflow/invoice_decisions.py": ("test_summary.py",),
    "workflow/invoice_state.py": ("test_summary.py",),
}
"""Other files of named mutants."""


def tests_of(file: str) -> tuple[str, ...]:
    """Return the unit tests of a file."""
    return tuple(f"tests/unit/{each}" for each in ({**PRODUCT, **HARNESS, **OTHER_FILES}).get(file, ()))


def sample_mutants(files: Iterable[str], most: int | None) -> Iterator[Mutant]:
    """Yield at most `most` mutants of each file, always the same ones; all if None."""
    for file in files:
        yield from edits_of(file, CODE_OPERATORS, partial(_chosen, file=file, most=most))


def _chosen(places: list[Place], file: str, most: int | None) -> list[Place]:
    """Select random places of alternating operators: some operators have many more places than others."""
    if most is None:
        return places
    chance = random.Random(file)
    seen: Counter[str] = Counter()
    turns = []
    for place in chance.sample(places, len(places)):
        seen[place[0]] += 1
        turns.append((seen[place[0]], place))
    return [place for _, place in sorted(turns, key=lambda each: each[0])][:most]
