"""The command line's `histories`: record, pull, check, coverage."""

# As in main.py: each command imports what it needs.
# ruff: noqa: PLC0415

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from invoice_mcp import __version__
from invoice_mcp.cli.histories_support import (
    errors_without_traceback,
    progress,
    render,
    run,
    stdout_suppressed,
    write_report,
)
from invoice_mcp.cli.options import EPILOG, temporal_options
from invoice_mcp.cli.options import duration as parse_duration
from invoice_mcp.exit import exit_process
from invoice_mcp.output import print_output

if TYPE_CHECKING:
    from temporalio.client import Client

    from temporal_replay import ReplayPool, Target

T = TypeVar("T")

_OWN_WORKFLOWS = "invoice_mcp.workflow.worker:REPLAY"
_DEFAULT_CORPUS = Path("histories")


def _code_options(command: Any) -> Any:
    for option in (
        click.option(
            "--data-converter", metavar="MODULE:NAME", help="The data converter of your client, if not Temporal's own."
        ),
        click.option(
            "--workflows",
            metavar="MODULE:NAME",
            help="Your workflow classes, as your worker takes them, or a mapping of all that "
            "temporalio.worker.Replayer takes.  [default: invoice-mcp's own]",
        ),
    ):
        command = option(command)
    return command


def _time_limit(command: Any) -> Any:
    return click.option(
        "--time-limit",
        callback=_seconds,
        default="30s",
        show_default=True,
        metavar="DURATION",
        help="For the replay of one recording.",
    )(command)


def _replay_options(command: Any) -> Any:
    for option in (
        click.option("--jobs", type=click.IntRange(min=1), help="Processes that replay.  [default: one a core]"),
        _time_limit,
        click.option(
            "--strict/--no-strict", default=True, help="Compare the values of commands too.  [default: strict]"
        ),
    ):
        command = option(command)
    return _code_options(command)


def _seconds(context: click.Context, param: click.Parameter, value: str) -> float:
    span = parse_duration(context, param, value)
    assert isinstance(span, timedelta)  # noqa: S101 (it has a default)
    return span.total_seconds()


_corpus_argument = click.argument("path", type=click.Path(path_type=Path), default=_DEFAULT_CORPUS)


@click.group(
    epilog="""\b
In CI, of any project with Temporal workflows in Python:
    invoice-mcp histories check --workflows my_package.worker:WORKFLOWS histories"""
)
def histories() -> None:
    """Recorded histories: no release breaks, or silently changes, a workflow that is already waiting.

    A history is what a workflow did, event by event. Replayed with changed code it shows whether that code can take
    over workflows that the old code began. Record them once a release, or pull them from where it runs; keep them in
    version control, in histories/; check them in CI.
    """


@histories.command(short_help="Replay recordings with the code as it is: the gate.")
@_corpus_argument
@_replay_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as JUnit XML too.")
@click.option("-v", "--verbose", is_flag=True, help="List every recording.")
def check(
    *,
    path: Path,
    workflows: str | None,
    data_converter: str | None,
    strict: bool,
    time_limit: float,
    jobs: int | None,
    as_json: bool,
    junit: Path | None,
    verbose: bool,
) -> None:
    """Replay every recording below PATH (a folder, or one file; by default histories/) with the code as it is.

    Each under its own workflow id, in the sandbox, on all cores. What fails: another command than was recorded;
    strictly also another value in one (a time-out, an input, an answer, a result), unless accepted-drift.toml in PATH
    lists it with a reason; a recording that can't be read, that paths.toml in PATH demands and is not there, that no
    code answers to, or that takes too long; nothing to replay.

    Strict replay does not compare what a history does not keep: cancellation types, refusals by update validators,
    answers of queries, inputs and time-outs of local activities, the retry policy of continue-as-new, and a local
    activity whose end the run does not wait for. Nor what may differ: headers, summaries and details for people, stack
    traces, versioning options, encodings of payloads, and of failures other than ApplicationError all but kind and
    message.

    \b
    Exit status: 0 clean, 1 broken, 2 could not run (or could not write the JUnit XML).
    """
    from temporal_replay import check_corpus, print_report, read_corpus, render_json, render_junit

    with errors_without_traceback():
        corpus = read_corpus(path)
        pool = _pool(workflows, data_converter, strict=strict, time_limit=time_limit, jobs=jobs)
        with progress("Replaying", len(corpus.files)) as advance:
            report = run(check_corpus(corpus, pool, lambda _: advance()))
    with errors_without_traceback():
        print_output(lambda: render_json(report) if as_json else render(partial(print_report, report, verbose=verbose)))
        if junit:
            write_report(junit, render_junit(report))
    sys.exit(0 if report.is_clean else 1)


@histories.command(short_help="Play and record our own workflows, once a release.")
@_corpus_argument
@click.option(
    "--release", default=__version__, show_default=True, help="What is recorded, as the folder's name: from_..."
)
def record(path: Path, release: str) -> None:
    """Play every path of invoice-mcp's own workflows on a real Temporal server, and record it in PATH.

    Once a release that changes commands; takes about a minute. Names are made up; each recording is proved to replay.
    Never writes over a release: what it started may still be running. Needs the extra `testing`, for the names.

    \b
    Exit status: 0 recorded, 2 could not run.
    """
    with errors_without_traceback(), stdout_suppressed():
        try:
            from invoice_mcp.testing.recordings import PATHS, record_release
        except ModuleNotFoundError as missing:
            raise click.UsageError(f"{missing}: install it with pip install 'invoice-mcp[testing]'.") from None
        with progress("Playing", len(PATHS)) as advance:
            names = run(record_release(path, release, on_path=lambda _: advance()))
    click.echo(f"{len(names)} recordings in {path}/from_{release}. Commit them; they are never recorded again.")


@histories.command(epilog=EPILOG, short_help="Fetch recordings from a live namespace, scrubbed.")
@click.option("--query", required=True, help="Which workflows, as `temporal workflow list --query` takes it.")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=_DEFAULT_CORPUS / "pulled",
    show_default=True,
    help="The folder to write to.",
)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@click.option(
    "--keep",
    multiple=True,
    metavar="FIELD",
    help="A field of inputs and results whose texts steer the code, or an activity, signal, update, workflow type. "
    "Once for each.",
)
@_time_limit
@_code_options
@temporal_options
def pull(
    *,
    query: str,
    into: Path,
    limit: int,
    keep: tuple[str, ...],
    time_limit: float,
    workflows: str | None,
    data_converter: str | None,
    **where: Any,
) -> None:
    """Fetch histories of workflows from a live namespace, scrub them, prove that they replay, and write them.

    What people wrote is replaced, the same text by the same other text of the same shape: in inputs, signals, updates,
    results, failures, memos; in ids of workflows, updates and requests. Callbacks, headers and links are left out. Kept
    are numbers, dates, names of fields, what --keep names, and what the code makes of it; what it names itself: types,
    also those of errors, signals, queues, ids of other workflows in its commands; namespaces, builds, ids of runs; and
    of an id that begins with the parent's, the rest. Each is replayed before and after, with the code as it is: pull
    with the release that runs there.

    \b
    Exit status: 0 all that the query found are written, 1 some are not, 2 could not run.
    """
    from invoice_mcp.temporal.connection import log_through_python
    from temporal_replay import Puller

    log_through_python()
    with errors_without_traceback(), stdout_suppressed():
        ours = () if workflows else _own_fields_to_keep()
        puller = Puller(_target(workflows, data_converter).load(), into, {*keep, *ours}, time_limit)
        with progress("Pulling", None) as advance:
            pulled = partial(puller.pull, query=query, limit=limit, on_result=lambda _: advance())
            found = run(_with_client(where, pulled), may_hang=True)
    for each in found:
        if each.error:
            click.echo(f"{each.workflow_id}: not written. {each.error}", err=True)
    written = [each.path for each in found if each.path]
    with errors_without_traceback():
        print_output(lambda: f"{len(written)} of {len(found)} workflows written to {into}.")
    if not found:
        click.echo("The query finds nothing.", err=True)
    exit_process(0 if len(written) == len(found) > 0 else 1)


@histories.command(epilog=EPILOG, short_help="Show paths, and patches that can be retired.")
@_corpus_argument
@_time_limit
@_code_options
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@temporal_options
def coverage(
    *,
    path: Path,
    time_limit: float,
    workflows: str | None,
    data_converter: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Show which recordings below PATH take which path of commands, and which patches can be retired.

    A patch can be retired when no recording needs it, and, with --address, --namespace or --profile, no open workflow
    of that namespace either. Folders of releases that nothing open began with can go first.

    \b
    Exit status: 0 shown, 2 could not run.
    """
    from invoice_mcp.temporal.connection import log_through_python
    from temporal_replay import measure_coverage, print_coverage, read_corpus, render_coverage_json

    log_through_python()
    with errors_without_traceback(), stdout_suppressed():
        corpus, code = read_corpus(path), _target(workflows, data_converter).load()
        asks = any(where.values())  # for open workflows: how many there are, nobody knows yet
        with progress("Replaying", None if asks else len(corpus.files)) as advance:
            measure = partial(measure_coverage, corpus, code, time_limit=time_limit, on_progress=advance)
            found = run(_with_client(where, measure) if asks else measure(), may_hang=True)
    with errors_without_traceback():
        print_output(lambda: render_coverage_json(found) if as_json else render(partial(print_coverage, found)))
    exit_process(0)


async def _with_client(where: dict[str, str | None], work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    from invoice_mcp.temporal.connection import TemporalSettings, open_connection
    from invoice_mcp.temporal.home import default_home

    settings = TemporalSettings(where["address"], where["namespace"], where["profile"], home=default_home())
    async with open_connection(settings) as reached:
        return await work(reached.client)


def _own_fields_to_keep() -> frozenset[str]:
    from invoice_mcp.testing.recordings import KEPT_FIELDS

    return KEPT_FIELDS


def _pool(
    workflows: str | None, data_converter: str | None, *, strict: bool = True, time_limit: float, jobs: int | None
) -> ReplayPool:
    from temporal_replay import ReplayPool

    return ReplayPool(_target(workflows, data_converter), strict=strict, time_limit=time_limit, processes=jobs or 0)


def _target(workflows: str | None, data_converter: str | None) -> Target:
    from temporal_replay import Target

    # As `python -m` does: what lies here can be imported.
    sys.path.insert(0, str(Path.cwd()))
    return Target(workflows or _OWN_WORKFLOWS, data_converter or "")
