"""`python -m invoice_mcp.testing SCENARIO`: plays one scenario again, against the model and the checker."""

from __future__ import annotations

import logging
import sys

import click
from pydantic import ValidationError

from invoice_mcp.output import OutputError, print_output
from invoice_mcp.testing.engines.registry import kinds
from invoice_mcp.testing.model.scenario import Scenario
from invoice_mcp.testing.simulate.fuzz.conformance import play
from invoice_mcp.testing.simulate.process.exit import run_and_exit
from invoice_mcp.testing.simulate.process.loading import WorkflowNotFoundError, load_workflow
from invoice_mcp.testing.world.environment import EnvironmentPool
from invoice_mcp.workflow.worker import WORKFLOWS


def _scenario(ctx: click.Context, param: click.Parameter, value: str) -> Scenario:
    # A callback instead of a `ParamType`, which needs type arguments for mypy and is generic only since click 8.4.
    try:
        return Scenario.model_validate_json(value)
    except ValidationError as error:
        raise click.BadParameter(f"it is no scenario: {error}", ctx, param) from None


def _workflows(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[type, ...]:
    return tuple(_workflow(value, ctx, param) for value in values) or WORKFLOWS


def _workflow(value: str, ctx: click.Context, param: click.Parameter) -> type:
    try:
        return load_workflow(value)
    except WorkflowNotFoundError as missing:
        raise click.BadParameter(str(missing), ctx, param) from None


try:
    _KINDS = kinds()
except ValueError as broken:
    sys.exit(f"Error: {broken}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("scenario", callback=_scenario)
@click.option(
    "--world", type=click.Choice(list(_KINDS)), default=next(iter(_KINDS)), help="The engine that runs the scenario."
)
@click.option(
    "--workflow",
    "workflows",
    metavar="MODULE:CLASS",
    multiple=True,
    callback=_workflows,
    help="A workflow that the worker runs. Replaces the invoice's own workflows, so name all of them.",
)
@click.option(
    "--sandbox/--no-sandbox", default=True, help="Run workflows in the SDK's sandbox, as in production, or without it."
)
@click.option("--times", type=click.IntRange(min=1), default=1, help="How many times to play it.")
@click.option("--code", is_flag=True, help="Print the scenario as a Python program instead of playing it.")
def main(*, scenario: Scenario, world: str, workflows: tuple[type, ...], sandbox: bool, times: int, code: bool) -> None:
    """Play one scenario again, as a failing test printed it, and report the rules that it breaks.

    SCENARIO is JSON, for example '{"actions": [{"verb": "reject"}, {"verb": "approve"}]}'. Its first action, submitting
    the invoice, is implied. Exit status: 0 if all rules hold, 1 if not, 2 if the scenario can't be played.
    """
    if code:
        print_output(lambda: scenario.as_code(world, workflows=workflows, sandboxed=sandbox))
        return
    # The scenario provokes warnings on purpose.
    logging.disable(logging.WARNING)
    pool = EnvironmentPool(_KINDS[world], workflows, sandboxed=sandbox)
    run_and_exit(_play(pool, scenario, times), _KINDS[world].loop_factory)


async def _play(pool: EnvironmentPool, scenario: Scenario, times: int) -> int:
    async with pool:
        for turn in range(1, times + 1):
            try:
                await play(pool, scenario)
            except ValidationError as senseless:
                click.echo(f"Its invoice can't be submitted: {senseless}", err=True)
                return 2
            except AssertionError as broken:
                click.echo(f"Run {turn} of {times}: {scenario}\n{broken}", err=True)
                return 1
        try:
            print_output(lambda: f"All rules hold in {times} of {times} runs: {scenario}")
        except OutputError as error:
            error.show()
            return error.exit_code
        return 0


if __name__ == "__main__":
    main()
