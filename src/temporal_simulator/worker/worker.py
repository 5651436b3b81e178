"""A worker: the code of workflows and activities, as given to `temporalio.worker.Worker`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.failure.v1 import Failure
from temporalio.common import MetricMeter
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

from temporal_simulator.worker.activity_info import info as activity_info
from temporal_simulator.worker.workflow_info import info, seed

if TYPE_CHECKING:
    from temporal_simulator.server.activities import Activity
    from temporal_simulator.server.execution import Execution


@dataclass(frozen=True)
class Outcome:
    """How an attempt of an activity ended. Neither result nor failure: it returned nothing, or it let go."""

    result: Payload | None = None
    failure: Failure | None = None
    is_cancelled: bool = False


@dataclass
class Worker:
    """Everything one worker can do.

    Args:
        workflows: Classes with `@workflow.defn`.
        activities: Callables with `@activity.defn`.
        runner: How the code of workflows is run. The default leaves out the SDK's sandbox, which costs ten times as
            much as all the rest; what it is for, the simulation shows by replaying whatever it evicts.
    """

    workflows: Iterable[type]
    activities: Iterable[Callable[..., Any]]
    runner: WorkflowRunner = field(default_factory=UnsandboxedWorkflowRunner)
    converter: DataConverter = DataConverter.default
    failure_exception_types: Sequence[type[BaseException]] = ()

    def __post_init__(self) -> None:
        if self.converter.payload_codec is not None:
            raise ValueError("The simulator does not encode payloads: use a data converter without a codec")
        definitions = [workflow._Definition.must_from_class(each) for each in self.workflows]
        self._workflows: Mapping[str | None, workflow._Definition] = {each.name: each for each in definitions}
        for definition in definitions:
            self.runner.prepare_workflow(definition)
        self._activities = {_definition_of(each).name: each for each in self.activities}
        self._doing: set[asyncio.Task[Outcome]] = set()
        self._extern: Mapping[str, Callable[..., Any]] = {
            "__temporal_get_metric_meter": lambda: MetricMeter.noop,
            "__temporal_assert_local_activity_valid": lambda name: None,  # noqa: ARG005 (they are not simulated)
        }

    # -- workflows -----------------------------------------------------------------------------------------

    def instance_of(self, run: Execution, begins: int) -> WorkflowInstance | None:
        """The code of a run, in memory; None where this worker has no such workflow."""
        definition = self._workflows.get(run.start.workflow_type) or self._workflows.get(None)
        if definition is None:
            return None
        return self.runner.create_instance(
            WorkflowInstanceDetails(
                payload_converter_factory=lambda: self.converter.payload_converter,
                failure_converter_class=self.converter.failure_converter_class,
                interceptor_classes=[],
                defn=definition,
                info=info(run, begins),
                randomness_seed=seed(run),
                extern_functions=self._extern,
                disable_eager_activity_execution=True,
                worker_level_failure_exception_types=self.failure_exception_types,
                patch_activation_callback=None,
                last_completion_result=Payloads(),
                last_failure=None,
            )
        )

    @property
    def names(self) -> str:
        """The workflows it has."""
        return ", ".join(sorted(str(name) for name in self._workflows))

    def lets_nondeterminism_fail(self, workflow_type: str) -> bool:
        """Whether it fails the workflow, not only its task."""
        definition = self._workflows.get(workflow_type) or self._workflows.get(None)
        own = definition.failure_exception_types if definition is not None else ()
        return any(issubclass(workflow.NondeterminismError, kind) for kind in (*self.failure_exception_types, *own))

    # -- activities ----------------------------------------------------------------------------------------

    def perform(self, doing: Activity) -> asyncio.Task[Outcome]:
        """Begin an attempt of an activity."""
        task = asyncio.create_task(self._perform(doing))
        self._doing.add(task)
        return task

    def did(self, task: asyncio.Task[Outcome]) -> bool:
        """Whether it was this worker that did it, asked once, when it is done."""
        is_ours = task in self._doing
        self._doing.discard(task)
        return is_ours

    def crash(self) -> None:
        """Break off every activity, wherever it is. What has ended already is not told any more either."""
        doing, self._doing = self._doing, set()
        for task in doing:
            task.cancel()

    def _activity(self, name: str) -> Callable[..., Any]:
        if name not in self._activities:
            raise ApplicationError(f"Activity function {name} is not registered on this worker", type="NotFoundError")
        return self._activities[name]

    async def _perform(self, doing: Activity) -> Outcome:
        converter = self.converter
        try:
            function = self._activity(doing.order.activity_type)
            definition = _definition_of(function)
            given = converter.payload_converter.from_payloads(doing.order.arguments, definition.arg_types)
            result = self._environment(doing).run(function, *given)
            if asyncio.iscoroutine(result):
                result = await result
            [payload] = converter.payload_converter.to_payloads([result])
            return Outcome(result=payload)
        except (Exception, asyncio.CancelledError) as error:
            if asyncio.current_task() not in self._doing:
                # By a crash: then nobody is there any more to tell it.
                raise
            lets_go = isinstance(error, CancelledError) or (doing.is_told_to_stop and not isinstance(error, Exception))
            if lets_go:
                return Outcome(is_cancelled=True)
            # Whatever it is, the workflow is told.
            failure = Failure()
            converter.failure_converter.to_failure(error, converter.payload_converter, failure)
            return Outcome(failure=failure)

    def _environment(self, doing: Activity) -> ActivityEnvironment:
        """What the code of an attempt can see and tell."""
        converter, attempt = self.converter.payload_converter, doing.attempt
        environment = ActivityEnvironment()
        environment.info = activity_info(doing, converter.from_payloads(doing.details))
        environment.payload_converter = converter

        def beat(*details: Any) -> None:
            if doing.beat(attempt, tuple(converter.to_payloads(details))):
                # By the answer to its heartbeat, which it does not wait for.
                doing.is_told_to_stop = True
                asyncio.get_running_loop().call_soon(environment.cancel)

        environment.on_heartbeat = beat
        return environment


def _definition_of(function: Callable[..., Any]) -> Any:
    return activity._Definition.must_from_callable(function)
