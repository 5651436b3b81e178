"""Schedule ids, and the replay of the execution that one names."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from invoice_mcp.testing.simulate.explore.execution import ControlledExecution
from invoice_mcp.testing.simulate.explore.plan import EVENTS, ONE_OF, Plan
from invoice_mcp.testing.simulate.failure import Failure
from invoice_mcp.testing.simulate.process.loading import load_workflows
from invoice_mcp.testing.simulate.process.quiet import suppress_logging
from invoice_mcp.testing.simulate.timeline import full_timeline, timeline_data
from temporal_simulator import ChoiceSequence, NotSimulated, TimelineEntry

T = TypeVar("T")

_NO_EVENTS = "nothing"
_PATTERN = re.compile(r"([^/]+)/([^/]+)/([0-9]+(?:\.[0-9]+)*)")
_FORM = "LINES/EVENT,.../BRANCH.BRANCH..."


class UnknownScheduleError(ValueError):
    """Text that is no schedule id, or an id of which the workflows have no execution."""


@dataclass(frozen=True)
class ScheduleId:
    """Names one execution of a plan, as `1/signal-approve/0.0.1`: lines, events, and the branch at each choice.

    Attributes:
        path: The branch taken at each choice. After the last one the first branch is taken.
    """

    plan: Plan
    path: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.plan != Plan(self.plan.lines, self.plan.events):
            raise ValueError("Only plans with every fault and with a crash have schedule ids")

    def __str__(self) -> str:
        """The id without trailing zeros, which mean the same."""
        last = max((number for number, branch in enumerate(self.path, 1) if branch), default=1)
        branches = ".".join(map(str, self.path[:last] or (0,)))
        return f"{self.plan.lines}/{','.join(self.plan.events) or _NO_EVENTS}/{branches}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The schedule id that a text means.

        Raises:
            UnknownScheduleError: It is none.
        """
        parts = _PATTERN.fullmatch(text)
        if parts is None:
            raise UnknownScheduleError(f"{text!r} must read {_FORM}, such as 1/signal-approve/0.0.1")
        lines, events, branches = parts.groups()
        chosen = () if events == _NO_EVENTS else tuple(events.split(","))
        path = tuple(map(int, branches.split(".")))
        if lines not in {"1", "2"} or {*chosen} - {*EVENTS, *ONE_OF}:
            events = ", ".join((*EVENTS, *ONE_OF))
            raise UnknownScheduleError(f"{text!r}: LINES is 1 or 2, an EVENT one of {events}, a BRANCH at least 0")
        return cls(Plan(int(lines), chosen), path)

    def command(self, workflows: Sequence[str] = ()) -> str:
        """The command that replays the execution."""
        words = ["invoice-mcp", "simulate", f"--path={self}", *(f"--workflow={name}" for name in workflows)]
        return shlex.join(words)


class _FixedChoices(ChoiceSequence):
    """ChoiceSequence along one path. A branch that does not exist is an error."""

    def __init__(self, path: tuple[int, ...]) -> None:
        super().__init__(path, set(), [])
        self._fixed = path

    def choose(self, options: Sequence[T], state: Callable[[], Hashable]) -> T:
        choice = len(self.path)
        if choice < len(self._fixed) and self._fixed[choice] >= len(options):
            raise UnknownScheduleError(
                f"choice {choice + 1} has {len(options)} branches, so there is no branch {self._fixed[choice]}"
            )
        return super().choose(options, state)


@dataclass(frozen=True)
class ReplayedExecution:
    """An execution that is reported in full.

    Attributes:
        command: Replays it.
        failure: Why it failed, if it did.
        timeline: Everything that happened in it.
    """

    schedule: ScheduleId
    command: str
    failure: Failure | None
    timeline: tuple[TimelineEntry, ...]

    def as_data(self) -> dict[str, Any]:
        """The execution as data for JSON."""
        return {
            "plan": str(self.schedule.plan),
            "path": str(self.schedule),
            "causes": list(self.failure.causes) if self.failure else [],
            "detail": self.failure.detail if self.failure else "",
            "command": self.command,
            "timeline": timeline_data(self.timeline),
        }


def describe_execution(
    schedule: ScheduleId,
    execution: ControlledExecution | None,
    workflows: Sequence[str],
    error: Exception | None = None,
) -> ReplayedExecution:
    """Report an execution.

    Args:
        execution: None if it could not start.
        error: What it failed by.

    Raises:
        NotSimulated: The workflows use a feature that the simulator does not have.
    """
    # A client that meets NotSimulated only gets INTERNAL.
    cause = error if execution is None else execution.simulation.error or error
    if isinstance(cause, NotSimulated):
        raise cause
    timeline = (
        () if execution is None else full_timeline(execution.simulation, execution.actions, execution.payments.made)
    )
    failure = None if error is None else Failure.of(error)
    return ReplayedExecution(schedule, schedule.command(workflows), failure, timeline)


def replay_schedule(schedule: ScheduleId, workflows: Sequence[str] = ()) -> ReplayedExecution:
    """Run the execution that a schedule id names.

    Raises:
        UnknownScheduleError: These workflows have no such execution.
        NotSimulated: They use a feature that the simulator does not have.
    """
    loaded = load_workflows(workflows)
    executions: list[ControlledExecution] = []

    async def run() -> None:
        executions.append(ControlledExecution(schedule.plan, loaded))
        choices = _FixedChoices(schedule.path)
        await executions[0].run(choices)
        if len(choices.path) < len(schedule.path):
            raise UnknownScheduleError(f"it ends after {len(choices.path)} choices")

    failed: Exception | None = None
    try:
        with suppress_logging():
            asyncio.run(run())
    except UnknownScheduleError as missing:
        raise UnknownScheduleError(f"These workflows have no execution {schedule}: {missing}") from None
    except Exception as error:  # noqa: BLE001 (any error is the execution's failure)
        failed = error
    return describe_execution(schedule, executions[0] if executions else None, workflows, failed)
