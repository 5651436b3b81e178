"""What came of a scenario, told so that it can be compared between engines: no ids, no times."""

from __future__ import annotations

from dataclasses import dataclass, replace

from invoice_mcp.testing import EnvironmentPool, Scenario, World, open_world
from invoice_mcp.testing.simulate.fuzz.conformance import PerformedAction, ScenarioPlayer
from temporal_replay import Recording, outline


@dataclass(frozen=True)
class ScenarioOutcome:
    """What came of it.

    Attributes:
        answers: Of each action what was done and how it was answered.
        reports: Of each run its status, decision and lines, at the end.
        ledger: Line, amount and currency of each payment.
        outlines: Of each run, and of each of its lines' workflows, the commands in order. Without those that keep
            the search attribute: the time-skipping server can't say whether it has that, so nothing is kept there.
    """

    answers: tuple[tuple[str, str], ...]
    reports: tuple[object, ...]
    ledger: tuple[tuple[int, str, str], ...]
    outlines: tuple[tuple[str, ...], ...]

    def without_waiting(self) -> ScenarioOutcome:
        """As if nobody had waited for a due date, or a deadline."""
        outlines = (tuple(step for step in each if step not in {"StartTimer", "CancelTimer"}) for each in self.outlines)
        return replace(self, outlines=tuple(outlines))


async def outcome_of(pool: EnvironmentPool, scenario: Scenario) -> ScenarioOutcome:
    """Play a scenario to its end, and tell what came of it.

    Raises:
        AssertionError: It is not as the model says, or breaks a promise.
    """
    done: list[PerformedAction] = []
    async with open_world(pool, **scenario.world) as world:
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
    told = report.model_dump(mode="json", include={"status", "workflow_status", "decision", "reason", "lines"})  # type: ignore[attr-defined]
    if told["decision"] is not None:
        told["decision"].pop("at")
    kept = ("line", "description", "amount", "status", "error", "reason", "unconfirmed")
    told["lines"] = [{key: line[key] for key in kept} for line in told["lines"]]
    return told
