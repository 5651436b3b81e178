"""`python -m tests.scenarios.controls` shows that every control is caught and that the real workflows pass."""

from __future__ import annotations

import logging
import sys

from rich.console import Console
from rich.progress import track
from rich.table import Table

from invoice_mcp.exit import exit_process
from invoice_mcp.testing import ScenarioRunner, kinds
from invoice_mcp.testing.checker.violations import RULES
from tests.scenarios.controls.catalogue import COMMON, CONTROLS
from tests.scenarios.controls.control import Caught, Control, catch, first_broken

WORLDS = ("simulated", "time-skipping")

Results = dict[Control, dict[str, Caught | None]]


def main() -> int:
    """Print the table, and return the exit status."""
    # The controls provoke warnings on purpose.
    logging.disable(logging.CRITICAL)
    # A log file has no terminal width.
    console = Console() if sys.stdout.isatty() else Console(width=180)
    every: Results = {
        control: {world: catch(control, world) for world in WORLDS}
        for control in track(CONTROLS, "The controls", console=console, transient=True)
    }
    console.print(_table(every))
    for rule, promise in RULES.items():
        broken = sum(any(caught and rule in caught.by for caught in how.values()) for how in every.values())
        console.print(f"{rule} is broken by {broken:2} controls. {promise}", highlight=False)
    is_well = all(
        caught and control.is_caught_by(caught.by, world)
        for control, how in every.items()
        for world, caught in how.items()
    )
    for world in WORLDS:
        with ScenarioRunner(kinds()[world]) as environment:
            real = first_broken(environment, COMMON)
        is_well = is_well and real is None
        how = f"break {real.scenario}: {real.detail}" if real else f"pass all {len(COMMON)} scenarios"
        console.print(f"The real workflows {how} ({world}).", highlight=False)
    return 0 if is_well else 1


def _table(every: Results) -> Table:
    caught = sum(all(how.values()) for how in every.values())
    table = Table(title=f"Workflows broken on purpose: {caught} of {len(every)} caught")
    for column in ("control", "what is wrong", "caught by", "in the scenario"):
        table.add_column(column)
    for world in WORLDS:
        table.add_column(f"{world}: after", justify="right")
        table.add_column("seconds", justify="right")
    for control, how in every.items():
        numbers = [text for world in WORLDS for text in _cost(control, how[world])]
        table.add_row(control.name, control.wrong, *_render(control, how), *numbers)
    return table


def _cost(control: Control, caught: Caught | None) -> tuple[str, str]:
    if caught is None:
        return f"[red]not in {len(control.scenarios)}[/red]", ""
    return str(caught.after), f"{caught.seconds:.1f}"


def _render(control: Control, how: dict[str, Caught | None]) -> tuple[str, str]:
    if None in how.values():
        return "[red]NOT CAUGHT[/red]", ""
    found = [caught for caught in how.values() if caught]
    missed = {
        rule
        for world, caught in how.items()
        if caught and not control.is_caught_by(caught.by, world)
        for rule in control.breaks - caught.by
    }
    by = ", ".join(sorted({rule for caught in found for rule in caught.by}))
    return by + (f" [red]but not {', '.join(sorted(missed))}[/red]" if missed else ""), found[0].scenario


if __name__ == "__main__":
    # The SDK's threads may abort a process that ends by itself.
    exit_process(main())
