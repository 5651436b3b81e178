"""`python -m tests.scenarios.controls`: shows that every control is caught, and that the real workflows pass."""

from __future__ import annotations

import asyncio
import logging
import sys

from rich.console import Console
from rich.table import Table

from invoice_mcp.testing import RULES, StageKeeper, kinds, run_and_leave
from tests.scenarios.controls.catalogue import COMMON, CONTROLS
from tests.scenarios.controls.playing import Caught, Control, catch, first_broken

# They mostly wait.
_AT_A_TIME = 3


async def main() -> int:
    """Print the table, and return the exit status."""
    # What the controls do on purpose is no news.
    logging.disable(logging.CRITICAL)
    # Wide enough for a log file, where there is no terminal to fit into.
    console = Console() if sys.stdout.isatty() else Console(width=180)
    turns = asyncio.Semaphore(_AT_A_TIME)
    with console.status("The controls") as status:

        async def catch_in_turn(control: Control) -> Caught | None:
            async with turns:
                caught = await catch(control)
                status.update(control.name)
                return caught

        every = await asyncio.gather(*(catch_in_turn(control) for control in CONTROLS))
        status.update("The real workflows")
        keeper = StageKeeper(kinds()["time-skipping"])
        real = await first_broken(keeper, COMMON)
        await keeper.close()
    console.print(_table(dict(zip(CONTROLS, every, strict=True))))
    for rule, promise in RULES.items():
        broken = sum(rule in caught.by for caught in every if caught)
        console.print(f"{rule} is broken by {broken:2} controls. {promise}", highlight=False)
    how = f"break {real.scenario}: {real.seen}" if real else f"pass all {len(COMMON)} scenarios"
    console.print(f"The real workflows {how}.", highlight=False)
    is_well = all(caught and control.breaks <= caught.by for control, caught in zip(CONTROLS, every, strict=True))
    return 0 if is_well and real is None else 1


def _table(every: dict[Control, Caught | None]) -> Table:
    caught = sum(each is not None for each in every.values())
    table = Table(title=f"Workflows broken on purpose: {caught} of {len(every)} caught")
    for column in ("control", "what is wrong", "caught by", "in the scenario"):
        table.add_column(column)
    for column in ("after", "seconds"):
        table.add_column(column, justify="right")
    for control, how in every.items():
        table.add_row(control.name, control.wrong, *_told(control, how))
    return table


def _told(control: Control, caught: Caught | None) -> tuple[str, ...]:
    if caught is None:
        return "[red]NOT CAUGHT[/red]", "", str(len(control.scenarios)), ""
    missed = ", ".join(sorted(control.breaks - caught.by))
    by = ", ".join(sorted(caught.by)) + (f" [red]but not {missed}[/red]" if missed else "")
    return by, caught.scenario, str(caught.after), f"{caught.seconds:.1f}"


if __name__ == "__main__":
    run_and_leave(main())
