"""The outcome of a scenario in a form that can be compared between engines: without ids and times."""

from __future__ import annotations

from dataclasses import dataclass, replace

from invoice_mcp.testing import EnvironmentPool, Scenario, World, open_world
from invoice_mcp.testing.simulate.fuzz.conformance import PerformedAction, ScenarioPlayer
from temporal_replay import Recording, outline


@dataclass(frozen=True)
class ScenarioOutcome:
    """What a scenario led to.

    Attributes:
        answers: Each action with its answer.
        reports: The status, decision and lines of each run, at the end.
        ledger: Line, amount and currency of each payment.
        outlines: The commands of each run and of each of its lines, in order. Without those that set the search
            attribute, since the time-skipping server can't say whether it has it, so the workflow does not set it.
    """

    answers: tuple[tuple[str, str], ...]
    reports: tuple[object, ...]
    ledger: tuple[tuple[int, str, str], ...]
    outlines: tuple[tuple[str, ...], ...]

    def without_waiting(self) -> ScenarioOutcome:
        """The outcome without the commands that wait for due dates and deadlines."""
        outlines = (tuple(step for step in each if step not in {"StartTimer", "CancelTimer"}) for each in self.outlines)
        return replace(self, outlines=tuple(outlines))


async def outcome_of(pool: EnvironmentPool, scenario: Scenario) -> ScenarioOutcome:
    """Play a scenario to its end. Returns its outcome.

    Raises:
        AssertionError: It does not conform to the model, or breaks a rule.
    """
    done: list[PerformedAction] = []
    async with open_world(pool, **scenario.world_options) as world:
        await ScenarioPlayer(world, scenario, done.append).play()
    observed = await world.observe()
    outlines = [
        await _outline(world, workflow_id, run_id)
        for run in observed.runs
        for workflow_id, run_id in [
            (run.workflow_id, run.run_id),
            *sorted((child, run_id) for run_id, child in run.trace.children.items()),
        ]
    ]
    return ScenarioOutcome(
        tuple((str(each.action), each.answer) for each in done),
        tuple(_report(run.report) for run in observed.runs),
        tuple((paid.order.line, str(paid.order.amount), paid.order.currency) for paid in world.ledger),
        tuple(outlines),
    )


async def _outline(world: World, workflow_id: str, run_id: str) -> tuple[str, ...]:
    history = await world.handle(workflow_id, run_id).fetch_history()
    return tuple(step for step in outline(Recording.of(history)) if step != "UpsertSearchAttributes")


def _report(report: object) -> object:
    assert report is not None
    fields = report.model_dump(mode="json", include={"status", "workflow_status", "decision", "reason", "lines"})  # type: ignore[attr-defined]
    if fields["decision"] is not None:
        fields["decision"].pop("at")
    kept = ("line", "description", "amount", "status", "error", "reason", "unconfirmed")
    fields["lines"] = [{key: line[key] for key in kept} for line in fields["lines"]]
    return fields
