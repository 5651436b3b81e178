"""A workflow runner that memoizes activations, for many executions that differ little.

Workflow code is deterministic: the same activations from the beginning give the same commands. A memoized instance
looks up each activation under a hash of all activations so far. Code runs only from the first activation not seen
before; then a real instance is created and given all earlier activations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from temporalio import workflow
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

from temporal_simulator.worker.activation import activate
from temporal_simulator.worker.fingerprint import fingerprint, hash_state


class NondeterministicWorkflowError(AssertionError):
    """The same activations gave other commands than before."""


@dataclass
class MemoizingRunner(WorkflowRunner):
    """Runs workflow code once for each distinct sequence of activations.

    Not for code that depends on the length of its history, or on anything else that is in no activation. All workers
    that share one must have the same data converter and the same failure exception types.

    Args:
        runner: Runs the workflow code.

    Example, where all executions of an exploration share the runner:

        runner = MemoizingRunner()
        worker = Worker(workflows, activities, runner=runner)
    """

    runner: WorkflowRunner = field(default_factory=UnsandboxedWorkflowRunner)

    def __post_init__(self) -> None:
        # By the hash of all activations: the serialized completion of the last one, and the fingerprint after it.
        self.completions: dict[bytes, bytes] = {}
        self.fingerprints: dict[bytes, bytes | None] = {}
        # After which activations an instance was evicted without an error.
        self.evicted: set[bytes] = set()

    def prepare_workflow(self, defn: workflow._Definition) -> None:
        """See `WorkflowRunner.prepare_workflow`."""
        self.runner.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """See `WorkflowRunner.create_instance`."""
        return MemoizedInstance(self, det)


class MemoizedInstance(WorkflowInstance):
    """A workflow instance that is real only from the first activation not seen before."""

    def __init__(self, runner: MemoizingRunner, details: WorkflowInstanceDetails) -> None:
        self._runner = runner
        self._details = details
        self._instance: WorkflowInstance | None = None
        self._activations: list[tuple[WorkflowActivation, bytes]] = []
        # Hash of all activations so far.
        self._key = hash_state((details.defn.cls, details.info, details.randomness_seed))

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        """See `WorkflowInstance.activate`."""
        kinds = {job.WhichOneof("variant") for job in act.jobs}
        if kinds == {"remove_from_cache"}:
            return self._evict(act)
        key = hash_state((self._key, _visible(act)))
        memoized = self._runner.completions.get(key)
        if memoized is None or self._instance is not None:
            completion = self._activate(self._real(), act, key)
        else:
            completion = WorkflowActivationCompletion.FromString(memoized)
        if kinds != {"query_workflow"}:
            self._activations.append((act, key))
            self._key = key
        return completion

    def get_serialization_context(self, command_info: Any) -> Any:
        """See `WorkflowInstance.get_serialization_context`."""
        return self._real().get_serialization_context(command_info)

    def get_external_store_context(self, command_info: Any) -> Any:
        """See `WorkflowInstance.get_external_store_context`."""
        return self._real().get_external_store_context(command_info)

    def get_info(self) -> workflow.Info:
        """See `WorkflowInstance.get_info`."""
        return self._details.info

    def fingerprint(self) -> bytes | None:
        """See `temporal_simulator.worker.fingerprint.fingerprint`."""
        fingerprints = self._runner.fingerprints
        if self._key not in fingerprints:
            fingerprints[self._key] = fingerprint(self._real())
        return fingerprints[self._key]

    def _real(self) -> WorkflowInstance:
        if self._instance is None:
            self._instance = self._runner.runner.create_instance(self._details)
            for act, key in self._activations:
                self._activate(self._instance, act, key)
        return self._instance

    def _activate(
        self, instance: WorkflowInstance, act: WorkflowActivation, key: bytes
    ) -> WorkflowActivationCompletion:
        completion = activate(instance, act)
        memoized = self._runner.completions.setdefault(key, completion.SerializeToString())
        if WorkflowActivationCompletion.FromString(memoized) != completion:
            raise NondeterministicWorkflowError(
                f"{self._details.info.workflow_id}: the same activations gave other commands than before"
            )
        return completion

    def _evict(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        if self._instance is None and self._key in self._runner.evicted:
            return WorkflowActivationCompletion(run_id=act.run_id)
        completion = activate(self._real(), act)
        self._runner.evicted.add(self._key)
        return completion


def _visible(act: WorkflowActivation) -> bytes:
    """What of an activation reaches workflow code; the length of the history is left out."""
    visible = WorkflowActivation()
    visible.CopyFrom(act)
    visible.history_length = 0
    return visible.SerializeToString(deterministic=True)
