"""The `histories` commands: check, record, pull and coverage."""

# Slow imports are inside the commands, so that --help is fast.

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from invoice_mcp import __version__
from invoice_mcp.cli.console import progress, render
from invoice_mcp.cli.options import EPILOG, temporal_options
from invoice_mcp.cli.options import duration as parse_duration
from invoice_mcp.cli.process import stdout_suppressed
from invoice_mcp.exit import exit_process
from invoice_mcp.output import print_output

if TYPE_CHECKING:
    import asyncio

    from temporalio.client import Client

    from temporal_replay import ReplayPool, Target

T = TypeVar("T")

_OWN_WORKFLOWS = "invoice_mcp.workflow.worker:REPLAY"
_DEFAULT_CORPUS = Path("histories")


def _code_options(command: Any) -> Any:
    for option in (
        click.option(
            "--data-converter",
            metavar="MODULE:NAME",
            help="The data converter of your client, if it is not Temporal's default.",
        ),
        click.option(
            "--workflows",
            metavar="MODULE:NAME",
            help="A sequence of workflow classes, as for temporalio.worker.Worker, or a mapping of arguments of "
            "temporalio.worker.Replayer.  [default: invoice-mcp's own]",
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
        help="Limit for the replay of one recording.",
    )(command)


def _replay_options(command: Any) -> Any:
    for option in (
        click.option("--jobs", type=click.IntRange(min=1), help="Number of replay processes.  [default: one per core]"),
        _time_limit,
        click.option(
            "--strict/--no-strict", default=True, help="Compare the values of commands, too.  [default: strict]"
        ),
    ):
        command = option(command)
    return _code_options(command)


def _seconds(context: click.Context, param: click.Parameter, value: str) -> float:
    span = parse_duration(context, param, value)
    assert isinstance(span, timedelta)  # noqa: S101 (for the type checker: the option has a default)
    return span.total_seconds()


_corpus_argument = click.argument("path", type=click.Path(path_type=Path), default=_DEFAULT_CORPUS)


@click.group(
    epilog="""\b
In the CI of any project with Temporal workflows in Python:
    invoice-mcp histories check --workflows my_package.worker:WORKFLOWS""",
    short_help="Replay recorded workflow histories with the current code.",
)
def histories() -> None:
    """Replay recorded workflow histories: find releases that break, or silently change, running workflows.

    A history is the list of all events of a workflow. Replaying it with changed code shows whether that code can
    continue workflows that older code started. Record histories once per release, or pull them from a live namespace;
    keep them in version control, in histories/; check them in CI.
    """


@histories.command(short_help="Replay recordings with the current code.")
@_corpus_argument
@_replay_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Also write the report as JUnit XML.")
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
    """Replay every recording below PATH (a folder or a file; by default histories/) with the current code.

    Each recording is replayed under its own workflow id, in the sandbox. The check fails on another command than was
    recorded; with --strict also on another value in a command (a timeout, an input, a result), unless
    accepted-drift.toml in PATH lists it with a reason; on a recording that can't be read, that paths.toml in PATH
    requires and is missing, whose workflow type is unknown, or that takes too long; and if there is no recording.

    Strict replay does not compare what a history does not contain: cancellation types, refusals by update validators,
    query results, inputs and timeouts of local activities, the retry policy of continue-as-new, and a local activity
    whose end the run does not wait for. It ignores what may differ: headers, summaries and details for people, stack
    traces, versioning options, payload encodings, and everything except kind and message of failures other than
    ApplicationError.

    \b
    Exit status: 0 all recordings pass, 1 one does not, 2 the check could not run
    or could not write the JUnit XML.
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


@histories.command(short_help="Record invoice-mcp's own workflows, once per release.")
@_corpus_argument
@click.option("--release", default=__version__, show_default=True, help="The release; the folder is from_RELEASE.")
def record(path: Path, release: str) -> None:
    """Run every path of invoice-mcp's own workflows on a real Temporal server and record the histories in PATH.

    Needed once for each release that changes commands; takes about a minute. Names in the recordings are generated.
    Each recording is replayed before it is written. Recordings of a release are never overwritten, because workflows
    that it started may still run. Needs the extra `testing`.

    \b
    Exit status: 0 recorded, 2 could not run.
    """
    with errors_without_traceback(), stdout_suppressed():
        try:
            from invoice_mcp.testing.recordings import PATHS, record_release
        except ModuleNotFoundError as missing:
            raise click.UsageError(f"{missing}: run pip install 'invoice-mcp[testing]'.") from None
        with progress("Recording", len(PATHS)) as advance:
            names = run(record_release(path, release, on_path=lambda _: advance()))
    click.echo(f"{len(names)} recordings in {path}/from_{release}. Commit them; they can't be recorded again.")


@histories.command(epilog=EPILOG, short_help="Fetch and scrub histories of a live namespace.")
@click.option("--query", required=True, help="List filter of the workflows, as in `temporal workflow list --query`.")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=_DEFAULT_CORPUS / "pulled",
    show_default=True,
    help="Folder for the recordings.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Maximum number of workflows."
)
@click.option(
    "--keep",
    multiple=True,
    metavar="FIELD",
    help="A field whose texts the code depends on, or an activity, signal, update or workflow type whose values to "
    "keep. May be repeated.",
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
    """Fetch histories of a live namespace, scrub them, check that they replay, and write them.

    Texts are replaced by other texts of the same shape, equal texts by equal ones: in inputs, signals, updates,
    results, failures and memos, and in ids of workflows, updates and requests. Callbacks, headers and links are
    removed. Kept are numbers, dates, field names, what --keep names and what the code derives from it; names that the
    code chooses (types of workflows, errors and signals, task queues, ids of other workflows in its commands);
    namespaces, builds and run ids; and the suffix of an id that begins with its parent's id. Each history is replayed
    before and after, with the current code: pull with the release that runs there.

    \b
    Exit status: 0 all workflows found are written, 1 some are not,
    2 could not run.
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
        click.echo("The query finds no workflow.", err=True)
    exit_process(0 if len(written) == len(found) > 0 else 1)


@histories.command(epilog=EPILOG, short_help="Show covered paths, and patches that can be retired.")
@_corpus_argument
@_time_limit
@_code_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
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
    """Show which recordings below PATH take the same path of commands, and which patches can be retired.

    A patch can be retired when no recording needs it and, if --address, --namespace or --profile is given, no open
    workflow of that namespace needs it. Delete the folders of releases that started no open workflow first.

    \b
    Exit status: 0 shown, 2 could not run.
    """
    from invoice_mcp.temporal.connection import log_through_python
    from temporal_replay import measure_coverage, print_coverage, read_corpus, render_coverage_json

    log_through_python()
    with errors_without_traceback(), stdout_suppressed():
        corpus, code = read_corpus(path), _target(workflows, data_converter).load()
        asks_server = any(where.values())  # the number of its open workflows is not known yet
        with progress("Replaying", None if asks_server else len(corpus.files)) as advance:
            measure = partial(measure_coverage, corpus, code, time_limit=time_limit, on_progress=advance)
            found = run(_with_client(where, measure) if asks_server else measure(), may_hang=True)
    with errors_without_traceback():
        print_output(lambda: render_coverage_json(found) if as_json else render(partial(print_coverage, found)))
    exit_process(0)


async def _with_client(where: dict[str, str | None], work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    from invoice_mcp.temporal.connection import TemporalSettings, open_connection
    from invoice_mcp.temporal.home import default_home

    settings = TemporalSettings(where["address"], where["namespace"], where["profile"], home=default_home())
    async with open_connection(settings) as connection:
        return await work(connection.client)


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

    # Modules in the current directory can be imported, as with `python -m`.
    sys.path.insert(0, str(Path.cwd()))
    return Target(workflows or _OWN_WORKFLOWS, data_converter or "")


def write_report(path: Path, text: str) -> None:
    """Write a file; create its folder if needed.

    Raises:
        WriteError: The file can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        is_no_folder = path.parent.exists() and not path.parent.is_dir()
        why = f"{path.parent} is not a folder" if is_no_folder else error.strerror or error
        raise WriteError(f"{path} can't be written: {why}") from None


class WriteError(Exception):
    """A file can't be written. The message says why."""


@contextmanager
def errors_without_traceback() -> Iterator[None]:
    """Report an expected error as one line and exit with status 2."""
    from invoice_mcp.domain.errors import ConfigurationError
    from invoice_mcp.output import OutputError
    from invoice_mcp.temporal.embedded import EmbeddedUnavailableError
    from invoice_mcp.testing import EngineStuckError
    from temporal_replay import CannotRunError

    try:
        yield
    except (
        CannotRunError,
        ConfigurationError,
        EmbeddedUnavailableError,
        EngineStuckError,
        WriteError,
        OutputError,
    ) as error:
        click.echo(f"Error: {error}", err=True)
        if _unclosed_runners:
            exit_process(2)
        sys.exit(2)


# Runners of calls that may hang. They stay open and keep threads of Temporal's SDK: the command ends by `exit_process`.
_unclosed_runners: list[asyncio.Runner] = []


def run(main: Coroutine[Any, Any, T], *, may_hang: bool = False) -> T:
    """Run a coroutine without log output. Ctrl-C ends the command with status 130.

    Args:
        may_hang: Whether a replay that `main` starts may never end. Its runner is not closed, and the command then has
            to end by `exit_process`.
    """
    import asyncio
    import logging

    before = logging.root.manager.disable
    # Recorded and replayed code logs its errors, too; the command reports the results.
    logging.disable(logging.ERROR)
    runner = asyncio.Runner()
    try:
        return runner.run(main)
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        if may_hang:
            exit_process(130)
        sys.exit(130)
    finally:
        if may_hang:
            _unclosed_runners.append(runner)  # closing it waits for all its tasks and threads
        else:
            runner.close()
        logging.disable(before)
