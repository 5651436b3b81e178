"""A workflow runner that captures the commands emitted by the runner it wraps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

from temporal_replay.commands.emitted import EmittedCommands
from temporal_replay.commands.schema import RunDefaults


class CapturingRunner(WorkflowRunner):
    """Delegates to another runner, and captures commands while `captured_run` is set.

    Attributes:
        captured_run: Defaults of the run that is replayed next; None to capture nothing, at no cost.
        emitted: The captured commands.
    """

    def __init__(self, inner: WorkflowRunner) -> None:
        self._inner = inner
        self.captured_run: RunDefaults | None = None
        self.emitted: EmittedCommands | None = None

    def prepare_workflow(self, defn: Any) -> None:
        """See `WorkflowRunner`."""
        self._inner.prepare_workflow(defn)

    def set_worker_level_failure_exception_types(self, types: Sequence[type[BaseException]]) -> None:
        """See `WorkflowRunner`."""
        self._inner.set_worker_level_failure_exception_types(types)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """See `WorkflowRunner`."""
        if self.captured_run is None:
            return self._inner.create_instance(det)
        # On replay the SDK substitutes its own task queue, which would appear in the commands.
        info = replace(det.info, task_queue=self.captured_run.task_queue)
        self.emitted = EmittedCommands(self.captured_run)
        return _CapturingInstance(self._inner.create_instance(replace(det, info=info)), self.emitted)


class _CapturingInstance(WorkflowInstance):
    def __init__(self, inner: WorkflowInstance, emitted: EmittedCommands) -> None:
        self._inner = inner
        self._emitted = emitted

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        completion = self._inner.activate(act)
        if completion.HasField("failed"):
            self._emitted.failures.append(_render_failure(completion.failed.failure))
        else:
            self._emitted.add(act.history_length, completion.successful.commands)
        return completion

    def get_serialization_context(self, command_info: Any) -> Any:
        return self._inner.get_serialization_context(command_info)

    def get_external_store_context(self, command_info: Any) -> Any:
        return self._inner.get_external_store_context(command_info)

    def get_info(self) -> Any:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()


def _render_failure(failure: Any) -> str:
    kind = failure.application_failure_info.type if failure.HasField("application_failure_info") else ""
    return f"{kind}: {failure.message}\n{failure.stack_trace}".strip(": \n")
