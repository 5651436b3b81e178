"""Instances of workflows that recall what others answered which were told the same: for many lives that differ little.

The code of a workflow is deterministic: told the same from its beginning, it wants the same. So as long as an instance
is told what another one was told before it, that one's answers are given, and no code runs; from the first word on that
is new, it is a real instance, told all from the beginning.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from temporalio import workflow
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

from temporal_simulator.worker.activation import activate
from temporal_simulator.worker.fingerprint import condensed, fingerprint


class NondeterministicWorkflowError(AssertionError):
    """Told the same again, the code of a workflow wanted something else: it is not deterministic."""


@dataclass
class MemoizingRunner(WorkflowRunner):
    """Runs workflows by another runner, and each of their ways only once.

    Code that asks for the length of its history, or for anything else that is not told to it, is not for this one. All
    workers that have it must convert payloads alike, and take the same exceptions for failures of the workflow.
    """

    runner: WorkflowRunner = field(default_factory=UnsandboxedWorkflowRunner)

    def __post_init__(self) -> None:
        # By all that was told up to then: what was answered, and what the code knew.
        self.answers: dict[bytes, bytes] = {}
        self.known: dict[bytes, bytes | None] = {}
        # Where the code let itself be put out of memory.
        self.left: set[bytes] = set()

    def prepare_workflow(self, defn: workflow._Definition) -> None:
        """As the other runner does."""
        self.runner.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """One that recalls."""
        return MemoizedInstance(self, det)


class MemoizedInstance(WorkflowInstance):
    """The code of one run; real only from the first thing on that it has to be asked itself."""

    def __init__(self, runner: MemoizingRunner, details: WorkflowInstanceDetails) -> None:
        self._runner = runner
        self._details = details
        self._instance: WorkflowInstance | None = None
        self._told: list[tuple[WorkflowActivation, bytes]] = []
        self._at = condensed((details.defn.cls, details.info, details.randomness_seed))

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        """Tell it something, or ask it something: as the real one."""
        kinds = {job.WhichOneof("variant") for job in act.jobs}
        if kinds == {"remove_from_cache"}:
            return self._leave(act)
        runner, there = self._runner, condensed((self._at, _heard(act)))
        answer = runner.answers.get(there)
        if answer is None or self._instance is not None:
            done = self._ask(self._real(), act, there)
        else:
            done = WorkflowActivationCompletion.FromString(answer)
        if kinds != {"query_workflow"}:
            self._told.append((act, there))
            self._at = there
        return done

    def get_serialization_context(self, command_info: Any) -> Any:
        """Of the real one."""
        return self._real().get_serialization_context(command_info)

    def get_external_store_context(self, command_info: Any) -> Any:
        """Of the real one."""
        return self._real().get_external_store_context(command_info)

    def get_info(self) -> workflow.Info:
        """What it was made with."""
        return self._details.info

    def knows(self) -> bytes | None:
        """The fingerprint of the real one."""
        known = self._runner.known
        if self._at not in known:
            known[self._at] = fingerprint(self._real())
        return known[self._at]

    def _real(self) -> WorkflowInstance:
        if self._instance is None:
            self._instance = self._runner.runner.create_instance(self._details)
            for act, there in self._told:
                self._ask(self._instance, act, there)
        return self._instance

    def _ask(self, instance: WorkflowInstance, act: WorkflowActivation, there: bytes) -> WorkflowActivationCompletion:
        done = activate(instance, act)
        before = self._runner.answers.setdefault(there, done.SerializeToString())
        if WorkflowActivationCompletion.FromString(before) != done:
            raise NondeterministicWorkflowError(
                f"{self._details.info.workflow_id}: told the same again, the workflow wants other things"
            )
        return done

    def _leave(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        if self._instance is None and self._at in self._runner.left:
            return WorkflowActivationCompletion(run_id=act.run_id)
        done = activate(self._real(), act)
        self._runner.left.add(self._at)
        return done


def _heard(act: WorkflowActivation) -> bytes:
    """What of it reaches the code: not how long its history is."""
    heard = WorkflowActivation()
    heard.CopyFrom(act)
    heard.history_length = 0
    return heard.SerializeToString(deterministic=True)
