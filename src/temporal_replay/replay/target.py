"""Which code answers to recordings: `some.module:WORKFLOWS`, imported by name in every process that replays."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from temporalio.converter import DataConverter, PayloadCodec
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from temporal_replay.replay.loading import LoadError, load_object
from temporal_replay.replay.runner import CapturingRunner


class CannotRunError(Exception):
    """The gate itself can't run, whatever the recordings are like. The message says why and what to do."""


def unreachable_message(error: Exception) -> str:
    """What to say where Temporal can't be reached."""
    # The SDK tells the whole chain of errors of its core in one line; the first says enough.
    reason = str(error).partition(": tonic")[0]
    return f"Temporal can't be reached: {reason}. Look at --address and TEMPORAL_ADDRESS"


@dataclass(frozen=True)
class Target:
    """Code to replay with, by name.

    Attributes:
        workflows: `module:attribute`: the workflow classes that a worker is given, or a mapping of everything that its
            `temporalio.worker.Replayer` takes (`workflows`, `data_converter`, `interceptors`, ...), or a function
            that returns either.
        data_converter: `module:attribute` of the client's data converter; "" for Temporal's own.
    """

    workflows: str
    data_converter: str = ""

    def load(self) -> LoadedTarget:
        """Import it.

        Raises:
            CannotRunError: It can't be imported, is nothing that can be replayed with, or no worker would run it.
        """
        loaded = _import_attribute(self.workflows, "--workflows")
        if callable(loaded) and not isinstance(loaded, type):
            loaded = _call_factory(loaded, self.workflows)
        options = dict(loaded) if isinstance(loaded, Mapping) else {"workflows": loaded}
        workflows = options.get("workflows")
        if not isinstance(workflows, Sequence) or not workflows or not all(isinstance(w, type) for w in workflows):
            raise CannotRunError(
                f"--workflows: {self.workflows} must be a list of workflow classes, as a worker takes them, "
                "or the keyword arguments of temporalio.worker.Replayer"
            )
        if self.data_converter:
            options["data_converter"] = _import_attribute(self.data_converter, "--data-converter")
        if not isinstance(options.setdefault("data_converter", DataConverter.default), DataConverter):
            raise CannotRunError(f"--data-converter: {self.data_converter} is no temporalio.converter.DataConverter")
        try:
            target = LoadedTarget(options)
        except (TypeError, ValueError) as error:
            raise CannotRunError(f"--workflows: {self.workflows} is nothing to replay with: {error}") from None
        _run_in_event_loop(target.validate)
        return target


class LoadedTarget:
    """Code to replay with, imported.

    Attributes:
        replayer: Temporal's own, with a runner that can be told to watch.
        watching: Every runner of it: the sandboxed one, and the one of workflows that opt out of the sandbox.
        codec: What recorded payloads are decoded with, before they are replayed.
        workflows: The classes.
        names: The workflow types they answer to; None among them: any.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        converter: DataConverter = options.get("data_converter", DataConverter.default)
        self.workflows: Sequence[type] = tuple(options["workflows"])
        self.workflow_types: Sequence[str | None] = [_workflow_type(workflow) for workflow in self.workflows]
        self.codec: PayloadCodec | None = converter.payload_codec
        self._options = {**options, "data_converter": replace(converter, payload_codec=None)}
        self.runners = (
            CapturingRunner(options.get("workflow_runner", SandboxedWorkflowRunner())),
            CapturingRunner(options.get("unsandboxed_workflow_runner", UnsandboxedWorkflowRunner())),
        )
        sandboxed, unsandboxed = self.runners
        self.replayer = Replayer(
            **{**self._options, "workflow_runner": sandboxed, "unsandboxed_workflow_runner": unsandboxed}
        )

    def validate(self) -> None:
        """Prepare each workflow as a worker does when it starts: the sandbox imports its module.

        To be called where an event loop runs.

        Raises:
            CannotRunError: A workflow can't be prepared, or two have one name; no worker would start with them.
        """
        duplicates = sorted({str(name) for name in self.workflow_types if self.workflow_types.count(name) > 1})
        if duplicates:
            raise CannotRunError(f"--workflows: more than one workflow answers to {', '.join(duplicates)}")
        config = self.replayer.config(active_config=True)  # plugins may have changed the runners
        for workflow in self.workflows:
            definition = vars(workflow)["__temporal_workflow_definition"]
            runner = config["workflow_runner" if definition.sandboxed else "unsandboxed_workflow_runner"]
            try:
                runner.prepare_workflow(definition)
            except Exception as error:  # noqa: BLE001 (whatever that code does when the sandbox imports it)
                raise CannotRunError(
                    f"--workflows: no worker would start with {workflow.__module__}:{workflow.__qualname__}, "
                    f"it can't be prepared to run: {_root_cause(error)}. If the sandbox is what refuses, import that "
                    "module within `with workflow.unsafe.imports_passed_through():`"
                ) from None

    def create_replayer(self, runner: WorkflowRunner) -> Replayer:
        """Temporal's own replayer for this code, with another runner."""
        return Replayer(**{**self._options, "workflow_runner": runner, "unsandboxed_workflow_runner": runner})

    def handles(self, workflow_type: str) -> bool:
        """Whether there is code for a workflow type."""
        return workflow_type in self.workflow_types or None in self.workflow_types


def _run_in_event_loop(work: Callable[[], None]) -> None:
    """Call it where an event loop runs: in the one that does, or in one of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(_as_coroutine(work))
        finally:
            loop.close()
    else:
        work()


async def _as_coroutine(work: Callable[[], None]) -> None:
    work()


def _root_cause(error: BaseException) -> str:
    """The error that another one was raised for."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}".rstrip(": .")


def _workflow_type(workflow: type) -> str | None:
    definition = vars(workflow).get("__temporal_workflow_definition")
    if definition is None:
        raise TypeError(f"{workflow.__qualname__} is no workflow: it has no @workflow.defn")
    name: str | None = definition.name
    return name


def _call_factory(function: Callable[[], Any], name: str) -> Any:
    """What a function returns."""
    try:
        result = function()
    except Exception as error:  # noqa: BLE001 (whatever that code does)
        raise CannotRunError(f"--workflows: {name} can't be called: {type(error).__name__}: {error}") from None
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise CannotRunError(f"--workflows: {name} is async: it must be a function that returns the workflows at once")
    return result


def _import_attribute(name: str, option: str) -> Any:
    try:
        return load_object(name)
    except LoadError as error:
        raise CannotRunError(f"{option}: {error}") from None
