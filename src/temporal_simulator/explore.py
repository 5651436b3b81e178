"""Every order in which things can happen: a life is lived again and again, each time along another branch.

Lives are run from their beginning, as the code of workflows can't be copied in the middle of one. Where a life gets to
a state that was seen before, what can follow is known already: it goes on any one way, to its end, for the sake of what
led there; unless that way leads nowhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

Path = tuple[int, ...]
"""Which branch was taken at each fork of a life."""


class Branches:
    """The forks of one life. Along a path that is given; then always the first branch, and the others are for later.

    Attributes:
        path: Which branches it took.
        leads_nowhere: It was broken off, as another life shows all that it could.
    """

    def __init__(self, path: Path, seen: set[Hashable], later: list[Path]) -> None:
        self._given = path
        self._seen = seen
        self._later = later
        self._is_known = False
        self.path: list[int] = []
        self.leads_nowhere = False

    def pick(self, options: Sequence[T], state: Callable[[], Hashable]) -> T:
        """The option that this life takes.

        Args:
            options: Everything that could happen; at least one thing. The first ones, taken again and again, lead to an
                end.
            state: Tells everything on which the future depends.
        """
        if len(self.path) < len(self._given):
            branch = self._given[len(self.path)]
        else:
            branch = 0
            if not self._is_known:
                self._look_around(len(options), state())
        self.path.append(branch)
        return options[branch]

    def _look_around(self, options: int, state: Hashable) -> None:
        self._is_known = state in self._seen
        if not self._is_known:
            self._seen.add(state)
            here = tuple(self.path)
            self._later.extend((*here, branch) for branch in range(options - 1, 0, -1))


@dataclass
class Explored:
    """What an exploration has found.

    Attributes:
        states: How many different states there were.
        lives: How many lives were lived to their ends to see them; not those that led nowhere.
    """

    states: int = 0
    lives: int = 0


async def explore(
    live: Callable[[Branches], Awaitable[None]],
    *,
    told: Callable[[Explored], None] | None = None,
    found: Explored | None = None,
) -> Explored:
    """Live every life there is.

    Args:
        live: Lives one along the branches that it is given, from the beginning to the end or until these lead nowhere,
            and raises AssertionError if something is wrong with it.
        told: Is called after each one.
        found: Where to keep count; it has the count too if something is wrong.

    Raises:
        AssertionError: What was wrong with one; a note tells its path, by which `replay_path` lives it again.
    """
    found, seen, later = found or Explored(), set[Hashable](), [Path()]
    while later:
        branches = Branches(later.pop(), seen, later)
        try:
            await live(branches)
        except AssertionError as wrong:
            wrong.add_note(f"Its path: {' '.join(map(str, branches.path))}")
            raise
        finally:
            found.states = len(seen)
            found.lives += not branches.leads_nowhere
        if told is not None:
            told(found)
    return found


async def replay_path(live: Callable[[Branches], Awaitable[None]], path: Path) -> None:
    """Live one life, along its path.

    Raises:
        AssertionError: What is wrong with it.
    """
    await live(Branches(path, set(), []))
