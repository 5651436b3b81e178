"""A worker: workflow and activity code, as given to `temporalio.worker.Worker`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from temporalio import activity, workflow
from temporalio.api.common.v1 import Payloads
from temporalio.api.failure.v1 import Failure
from temporalio.common import MetricMeter
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

from temporal_simulator.protocol.interfaces import ActivityView, AttemptResult, RunView
from temporal_simulator.worker.activity_info import activity_info
from temporal_simulator.worker.workflow_info import randomness_seed, workflow_info


@dataclass
class Worker:
    """The workflows and activities that one worker can run.

    Args:
        workflows: Classes with `@workflow.defn`.
        activities: Callables with `@activity.defn`.
        runner: Runs workflow code. The default leaves out the SDK's sandbox, which costs ten times as much as
            everything else; the nondeterminism that it guards against shows when evicted instances are replayed.
        converter: Must have no payload codec.
        failure_exception_types: As for `temporalio.worker.Worker`.

    Raises:
        ValueError: The converter has a payload codec.

    Example:
        simulation.start_worker("queue", Worker([Greeting], [greet]))
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
        self._activities = {_activity_definition(each).name: each for each in self.activities}
        self._attempts: set[asyncio.Task[AttemptResult]] = set()
        self._extern: Mapping[str, Callable[..., Any]] = {
            "__temporal_get_metric_meter": lambda: MetricMeter.noop,
            "__temporal_assert_local_activity_valid": lambda _: None,
        }

    # -- workflows -----------------------------------------------------------------------------------------

    def create_instance(self, run: RunView, first_task_at: int) -> WorkflowInstance | None:
        """Create a workflow instance; None if the workflow type is not registered."""
        definition = self._definition(run.start.workflow_type)
        if definition is None:
            return None
        return self.runner.create_instance(
            WorkflowInstanceDetails(
                payload_converter_factory=lambda: self.converter.payload_converter,
                failure_converter_class=self.converter.failure_converter_class,
                interceptor_classes=[],
                defn=definition,
                info=workflow_info(run, first_task_at),
                randomness_seed=randomness_seed(run.origin.run_id),
                extern_functions=self._extern,
                disable_eager_activity_execution=True,
                worker_level_failure_exception_types=self.failure_exception_types,
                patch_activation_callback=None,
                last_completion_result=Payloads(),
                last_failure=None,
            )
        )

    def _definition(self, workflow_type: str) -> workflow._Definition | None:
        # Without a name is a dynamic workflow, which stands in for all that are not registered.
        return self._workflows.get(workflow_type) or self._workflows.get(None)

    @property
    def workflow_types(self) -> str:
        """The registered workflow types, comma-separated."""
        return ", ".join(sorted(str(name) for name in self._workflows))

    def fails_workflow_on_nondeterminism(self, workflow_type: str) -> bool:
        """Whether nondeterminism fails the workflow instead of the workflow task."""
        definition = self._definition(workflow_type)
        own = definition.failure_exception_types if definition is not None else ()
        return any(issubclass(workflow.NondeterminismError, kind) for kind in (*self.failure_exception_types, *own))

    # -- activities ----------------------------------------------------------------------------------------

    def execute(self, activity: ActivityView) -> asyncio.Task[AttemptResult]:
        """Start an activity attempt."""
        attempt = asyncio.create_task(self._execute(activity))
        self._attempts.add(attempt)
        return attempt

    def release(self, attempt: asyncio.Task[AttemptResult]) -> bool:
        """Whether this worker ran a finished attempt and has not crashed since. Asked once per attempt."""
        is_own = attempt in self._attempts
        self._attempts.discard(attempt)
        return is_own

    def crash(self) -> None:
        """Cancel every attempt, and disown those that have finished without a report."""
        attempts, self._attempts = self._attempts, set()
        for attempt in attempts:
            attempt.cancel()

    def _function(self, name: str) -> Callable[..., Any]:
        if name not in self._activities:
            raise ApplicationError(f"Activity function {name} is not registered on this worker", type="NotFoundError")
        return self._activities[name]

    async def _execute(self, activity: ActivityView) -> AttemptResult:
        converter = self.converter
        try:
            function = self._function(activity.command.activity_type)
            types = _activity_definition(function).arg_types
            arguments = converter.payload_converter.from_payloads(activity.command.arguments, types)
            result = self._environment(activity).run(function, *arguments)
            if asyncio.iscoroutine(result):
                result = await result
            [payload] = converter.payload_converter.to_payloads([result])
            return AttemptResult(result=payload)
        except (Exception, asyncio.CancelledError) as error:
            if asyncio.current_task() not in self._attempts:
                # The worker has crashed: there is nobody to report to.
                raise
            is_cancelled = isinstance(error, CancelledError) or (
                activity.is_cancel_delivered and not isinstance(error, Exception)
            )
            if is_cancelled:
                return AttemptResult(is_cancelled=True)
            failure = Failure()
            converter.failure_converter.to_failure(error, converter.payload_converter, failure)
            return AttemptResult(failure=failure)

    def _environment(self, activity: ActivityView) -> ActivityEnvironment:
        """The context of an attempt: its info, and its heartbeats."""
        converter, attempt = self.converter.payload_converter, activity.attempt
        environment = ActivityEnvironment()
        environment.info = activity_info(activity, converter.from_payloads(activity.details))
        environment.payload_converter = converter

        def heartbeat(*details: Any) -> None:
            if activity.heartbeat(attempt, tuple(converter.to_payloads(details))):
                # The response to a heartbeat requests cancellation. Activity code does not wait for that response.
                activity.is_cancel_delivered = True
                asyncio.get_running_loop().call_soon(environment.cancel)

        environment.on_heartbeat = heartbeat
        return environment


def _activity_definition(function: Callable[..., Any]) -> Any:
    return activity._Definition.must_from_callable(function)
