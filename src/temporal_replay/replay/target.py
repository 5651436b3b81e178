"""The code to replay with: named as `some.module:WORKFLOWS`, and imported in every process that replays."""

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
    """The gate can't run, independently of the recordings. The message says why, and what to do."""


def unreachable_message(error: Exception) -> str:
    """The message for a Temporal server that can't be reached."""
    # The SDK joins the error chain of its core in one line. The first error is enough.
    reason = str(error).partition(": tonic")[0]
    return f"Temporal can't be reached: {reason}. Check --address and TEMPORAL_ADDRESS"


@dataclass(frozen=True)
class Target:
    """The code to replay with, by name.

    Attributes:
        workflows: `module:attribute` of one of: a list of workflow classes, as a worker takes it; a mapping of keyword
            arguments of `temporalio.worker.Replayer` (`workflows`, `data_converter`, `interceptors`, ...); a function
            that returns either.
        data_converter: `module:attribute` of the client's data converter; "" for Temporal's default.

    Example:
        Target("my_app.worker:WORKFLOWS", data_converter="my_app.client:CONVERTER")
    """

    workflows: str
    data_converter: str = ""

    def load(self) -> LoadedTarget:
        """Import the code.

        Raises:
            CannotRunError: The import fails, the object has another type, or a worker could not run the workflows.
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
            raise CannotRunError(f"--data-converter: {self.data_converter} is not a temporalio.converter.DataConverter")
        try:
            target = LoadedTarget(options)
        except (TypeError, ValueError) as error:
            raise CannotRunError(f"--workflows: {self.workflows} can't be replayed with: {error}") from None
        _run_in_event_loop(target.validate)
        return target


class LoadedTarget:
    """The imported code.

    Attributes:
        replayer: Temporal's replayer, with capturing runners.
        runners: Its runners: the sandboxed one, and the one for workflows that opt out of the sandbox.
        codec: Decodes recorded payloads before replay.
        workflows: The workflow classes.
        workflow_types: The types they handle; None stands for a dynamic workflow, which handles any type.
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
        """Prepare each workflow as a starting worker does; the sandbox imports its module.

        Requires a running event loop.

        Raises:
            CannotRunError: A workflow can't be prepared, or two handle the same type. No worker would start with them.
        """
        duplicates = sorted({str(name) for name in self.workflow_types if self.workflow_types.count(name) > 1})
        if duplicates:
            raise CannotRunError(f"--workflows: more than one workflow handles {', '.join(duplicates)}")
        config = self.replayer.config(active_config=True)  # plugins may have changed the runners
        for workflow in self.workflows:
            definition = vars(workflow)["__temporal_workflow_definition"]
            runner = config["workflow_runner" if definition.sandboxed else "unsandboxed_workflow_runner"]
            try:
                runner.prepare_workflow(definition)
            except Exception as error:  # noqa: BLE001 (user code, imported by the sandbox)
                raise CannotRunError(
                    f"--workflows: no worker would start with {workflow.__module__}:{workflow.__qualname__}, "
                    f"preparing it fails: {_root_cause(error)}. If the sandbox raised this, import that "
                    "module within `with workflow.unsafe.imports_passed_through():`"
                ) from None

    def create_replayer(self, runner: WorkflowRunner) -> Replayer:
        """Create a replayer for this code that uses another runner."""
        return Replayer(**{**self._options, "workflow_runner": runner, "unsandboxed_workflow_runner": runner})

    def handles(self, workflow_type: str) -> bool:
        """Whether a workflow class handles the type."""
        return workflow_type in self.workflow_types or None in self.workflow_types


def _run_in_event_loop(work: Callable[[], None]) -> None:
    """Call `work` in the running event loop, or in a new one."""
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
    """Type and message of the error at the start of the chain of causes."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}".rstrip(": .")


def _workflow_type(workflow: type) -> str | None:
    definition = vars(workflow).get("__temporal_workflow_definition")
    if definition is None:
        raise TypeError(f"{workflow.__qualname__} is not a workflow: it has no @workflow.defn")
    name: str | None = definition.name
    return name


def _call_factory(function: Callable[[], Any], name: str) -> Any:
    """The return value of a function named by --workflows."""
    try:
        result = function()
    except Exception as error:  # noqa: BLE001 (user code)
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
