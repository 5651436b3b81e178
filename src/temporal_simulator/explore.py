"""Stateless model checking: a depth-first search over every schedule, with state hashing.

Workflow code cannot be copied in the middle of an execution, so there are no checkpoints: each execution starts from
the initial state and replays a prefix of choices, as VeriSoft does (Godefroid, "Model Checking for Programming
Languages using VeriSoft", POPL 1997). Unlike VeriSoft, the search stores a hash of each visited state and does not
branch again in a state that it has seen. It still runs that execution to its end along one schedule, because the checks
at the end may depend on the path to the state.

Partial-order reduction is up to the caller, who decides which options to offer at each choice point; an execution that
the reduction makes redundant sets `ChoiceSequence.is_pruned`. Dynamic partial-order reduction (Flanagan & Godefroid,
"Dynamic Partial-Order Reduction for Model Checking Software", POPL 2005) is not implemented.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

Path = tuple[int, ...]
"""The index of the option that was chosen at each choice point of an execution."""


class ChoiceSequence:
    """The choices of one execution: a given prefix, then always the first option.

    Attributes:
        path: The choices made so far.
        is_pruned: Set by the caller on an execution that it abandons because other executions cover it.
    """

    def __init__(self, path: Path, visited: set[Hashable], frontier: list[Path]) -> None:
        self._prefix = path
        self._visited = visited
        self._frontier = frontier
        self._is_state_known = False
        self.path: list[int] = []
        self.is_pruned = False

    def choose(self, options: Sequence[T], state: Callable[[], Hashable]) -> T:
        """Choose the next option of this execution.

        Args:
            options: Everything that could happen next; at least one option. An execution that always takes the first
                option must terminate.
            state: Returns a hashable value of everything on which the future depends. Called at new choice points only.
        """
        if len(self.path) < len(self._prefix):
            branch = self._prefix[len(self.path)]
        else:
            branch = 0
            if not self._is_state_known:
                self._visit(len(options), state())
        self.path.append(branch)
        return options[branch]

    def _visit(self, options: int, state: Hashable) -> None:
        self._is_state_known = state in self._visited
        if not self._is_state_known:
            self._visited.add(state)
            prefix = tuple(self.path)
            self._frontier.extend((*prefix, branch) for branch in range(options - 1, 0, -1))


@dataclass
class ExplorationStats:
    """The size of an exploration.

    Attributes:
        states: Distinct states visited.
        executions: Executions run to their end; pruned ones do not count.
    """

    states: int = 0
    executions: int = 0


async def explore(
    execute: Callable[[ChoiceSequence], Awaitable[None]],
    *,
    on_execution: Callable[[ExplorationStats], None] | None = None,
    stats: ExplorationStats | None = None,
) -> ExplorationStats:
    """Run every execution that the choices allow.

    Args:
        execute: Runs one execution from the initial state, asks the choice sequence at each choice point, and raises
            AssertionError if a check fails.
        on_execution: Called after each execution.
        stats: Updated in place, so that the counts are known if a check fails, too.

    Raises:
        AssertionError: The first failed check. A note on it has the path, with which `replay_path` runs it again.

    Example, with a simulation that the caller controls:

        async def execute(choices: ChoiceSequence) -> None:
            simulation = Simulation(scheduler=..., manual=True)
            ...  # start a worker and a workflow
            while options := simulation.enabled_events():
                await simulation.process(choices.choose(options, simulation.digest))
            ...  # assert what must hold at the end

        stats = await explore(execute)
    """
    stats, visited, frontier = stats or ExplorationStats(), set[Hashable](), [Path()]
    while frontier:
        choices = ChoiceSequence(frontier.pop(), visited, frontier)
        try:
            await execute(choices)
        except AssertionError as error:
            error.add_note(f"Its path: {' '.join(map(str, choices.path))}")
            raise
        finally:
            stats.states = len(visited)
            stats.executions += not choices.is_pruned
        if on_execution is not None:
            on_execution(stats)
    return stats


async def replay_path(execute: Callable[[ChoiceSequence], Awaitable[None]], path: Path) -> None:
    """Run the execution with these choices; where the path ends, the first option is chosen.

    Raises:
        AssertionError: The check that failed in it.
    """
    await execute(ChoiceSequence(path, set(), []))
