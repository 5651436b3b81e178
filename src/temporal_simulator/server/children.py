"""Child workflows: start, close, cancellation, parent close policies, and resets of the parent."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from temporalio.api.common.v1 import Memo, Payloads, SearchAttributes, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import (
    EventType,
    StartChildWorkflowExecutionFailedCause,
    TimeoutType,
)
from temporalio.api.enums.v1 import WorkflowExecutionStatus as Status
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.sdk.v1 import UserMetadata
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.bridge.proto.child_workflow import (
    Cancellation,
    ChildWorkflowCancellationType,
    ChildWorkflowResult,
    ParentClosePolicy,
)
from temporalio.bridge.proto.child_workflow import Failure as ChildFailed
from temporalio.bridge.proto.child_workflow import (
    StartChildWorkflowExecutionFailedCause as FailedToStart,
)
from temporalio.bridge.proto.child_workflow import Success as ChildDone
from temporalio.bridge.proto.workflow_activation import (
    ResolveChildWorkflowExecution,
    ResolveChildWorkflowExecutionStart,
    ResolveChildWorkflowExecutionStartFailure,
    ResolveChildWorkflowExecutionStartSuccess,
    WorkflowActivationJob,
)
from temporalio.bridge.proto.workflow_commands import StartChildWorkflowExecution

from temporal_simulator.event_queue import SECOND
from temporal_simulator.protocol.command_kinds import UNAWAITED_CANCELLATIONS
from temporal_simulator.protocol.events import (
    CANCEL_TARGET_NOT_FOUND,
    NAMESPACE,
    canceled_failure,
    child_failure,
    new_event,
    terminated_failure,
    timeout_failure,
    to_nanoseconds,
)
from temporal_simulator.protocol.start import Start

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution

_RESOLUTIONS = frozenset({"resolve_child_workflow_execution_start", "resolve_child_workflow_execution"})
_TASK_TIMEOUT = 10 * SECOND
_START_TO_CLOSE = TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
_ALREADY_EXISTS = (
    StartChildWorkflowExecutionFailedCause.START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS
)


class ChildWorkflow:
    """A child workflow as its parent keeps it.

    Attributes:
        parent: The run that started it.
        command: The command that started it.
        initiated: Id of the event that initiated it.
        is_closed: Whether it has closed, or could not start.
    """

    def __init__(
        self,
        parent: Execution,
        command: StartChildWorkflowExecution,
        user_metadata: UserMetadata,
        task_completed: int,
        *,
        initiated: int = 0,
    ) -> None:
        """Initiate a child, and start it unless it was initiated before.

        Args:
            task_completed: Id of the event that completed the workflow task with the command.
            initiated: Id of the event that initiated it, if that is in the history already; then call `attach` or
                `start_if_pending`.
        """
        self.parent = parent
        self.command = command
        # Whether workflow code has its resolution already, because it does not wait for the cancellation.
        self.is_closed = self._is_resolved = False
        self._run: Execution | None = None
        self._started: HistoryEvent | None = None
        self._user_metadata = user_metadata
        self.initiated = initiated or self._record_initiated(task_completed)
        if not initiated:
            self.start_if_pending()

    def _record_initiated(self, task_completed: int) -> int:
        command = self.command
        initiated = new_event(
            EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
            namespace=NAMESPACE,
            workflow_id=command.workflow_id,
            workflow_type=WorkflowType(name=command.workflow_type),
            task_queue=TaskQueue(name=command.task_queue),
            input=Payloads(payloads=command.input),
            workflow_execution_timeout=command.workflow_execution_timeout,
            workflow_run_timeout=command.workflow_run_timeout,
            workflow_task_timeout=command.workflow_task_timeout,
            parent_close_policy=command.parent_close_policy,
            workflow_id_reuse_policy=command.workflow_id_reuse_policy,
            header={"fields": command.headers},
            memo=Memo(fields=command.memo),
            search_attributes=command.search_attributes,
            workflow_task_completed_event_id=task_completed,
        )
        initiated.user_metadata.CopyFrom(self._user_metadata)
        return self.parent.record(initiated)

    @property
    def parent_ref(self) -> WorkflowExecution:
        """See `ParentLink.parent_ref`."""
        return self.parent.ref

    @property
    def root_ref(self) -> WorkflowExecution:
        """See `ParentLink.root_ref`."""
        return self.parent.root_ref

    @property
    def run_id(self) -> str:
        """The run id of the child; "" before it has started."""
        return self._run.run_id if self._run is not None else ""

    def digest(self) -> Hashable:
        """Everything on which its future depends, and that the parent's code does not know."""
        result = self._run.close_summary() if self._run is not None and not self._run.is_open else ""
        command = self.command.SerializeToString(deterministic=True)
        return command, self.run_id, self._is_resolved, result

    # -- start ---------------------------------------------------------------------------------------------

    def start_if_pending(self) -> None:
        """Enable its start, unless it has started or failed to."""
        if self._run is None and not self.is_closed:
            self.parent.enable("child starts", self._start, detail=str(self.command.seq))

    def _start(self) -> None:
        command, parent = self.command, self.parent
        if not parent.is_open and command.parent_close_policy != ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON:
            return
        if command.HasField("retry_policy") or command.cron_schedule:
            parent.simulation.raise_not_simulated("a child workflow with a retry policy or a cron schedule")
        start = Start(
            workflow_id=command.workflow_id,
            workflow_type=command.workflow_type,
            task_queue=command.task_queue,
            input=Payloads(payloads=command.input),
            task_timeout=to_nanoseconds(command.workflow_task_timeout) or _TASK_TIMEOUT,
            run_timeout=to_nanoseconds(command.workflow_run_timeout),
            execution_timeout=to_nanoseconds(command.workflow_execution_timeout),
            memo=Memo(fields=command.memo),
            search_attributes=SearchAttributes(indexed_fields=command.search_attributes.indexed_fields),
            header=command.headers,
            user_metadata=self._user_metadata,
            parent=self,
        )
        run = parent.simulation.start_if_allowed(start, command.workflow_id_reuse_policy)
        if run is None:
            self.report_start_failed()
        else:
            self._report_started(run)

    def _report_started(self, run: Execution) -> None:
        command, self._run = self.command, run
        self._started = new_event(
            EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED,
            namespace=NAMESPACE,
            initiated_event_id=self.initiated,
            workflow_execution=run.ref,
            workflow_type=WorkflowType(name=command.workflow_type),
        )
        succeeded = ResolveChildWorkflowExecutionStartSuccess(run_id=run.run_id)
        self._resolve_start(self._started, ResolveChildWorkflowExecutionStart(seq=command.seq, succeeded=succeeded))

    def report_start_failed(self) -> None:
        """Report to the parent that another workflow has the child's id."""
        command = self.command
        failed = new_event(
            EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED,
            namespace=NAMESPACE,
            workflow_id=command.workflow_id,
            workflow_type=WorkflowType(name=command.workflow_type),
            cause=_ALREADY_EXISTS,
            initiated_event_id=self.initiated,
        )
        failure = ResolveChildWorkflowExecutionStartFailure(
            workflow_id=command.workflow_id,
            workflow_type=command.workflow_type,
            cause=FailedToStart.START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS,
        )
        self.is_closed = True
        self._resolve_start(failed, ResolveChildWorkflowExecutionStart(seq=command.seq, failed=failure))
        self.parent.prune_closed()

    def _resolve_start(self, new: HistoryEvent, resolution: ResolveChildWorkflowExecutionStart) -> None:
        job = WorkflowActivationJob(resolve_child_workflow_execution_start=resolution)
        self.parent.deliver(new, job=None if self._is_resolved else job)

    # -- after a reset of the parent -----------------------------------------------------------------------

    def attach(self, started: HistoryEvent) -> Execution:
        """Attach the run that had started by the reset point, as this event says; the new parent awaits its close."""
        self._started = started
        self._run = self._adopt(started.child_workflow_execution_started_event_attributes.workflow_execution.run_id)
        return self._run

    def report_started(self, run_id: str) -> None:
        """Report that the child has started since the reset point."""
        if self._run is None:
            self._report_started(self._adopt(run_id))

    def resolve_closed(self) -> None:
        """Report that the child has closed since the reset point."""
        assert self._run is not None  # it has started before the reset point
        self._resolve_closed(self._run)

    def _adopt(self, run_id: str) -> Execution:
        run = self.parent.simulation.find(self.command.workflow_id, run_id)
        assert run is not None  # the event says that it has started
        run.awaited_by = self
        return run

    # -- close ---------------------------------------------------------------------------------------------

    def report_closed(self) -> None:
        """See `ParentLink.report_closed`."""
        run = self._run
        assert run is not None  # only a run that has started can close
        self.parent.enable("child close is reported", lambda: self._resolve_closed(run), detail=str(self.command.seq))

    def _resolve_closed(self, run: Execution) -> None:
        if run.awaited_by is not None and run.awaited_by is not self:
            # Meanwhile the parent was reset.
            run.awaited_by.report_closed()
            return
        last = run.history[-1]
        attributes = {
            "namespace": NAMESPACE,
            "workflow_execution": run.ref,
            "workflow_type": WorkflowType(name=self.command.workflow_type),
            "initiated_event_id": self.initiated,
            "started_event_id": self._started.event_id if self._started is not None else 0,
        }
        match run.status:
            case Status.WORKFLOW_EXECUTION_STATUS_COMPLETED:
                result = last.workflow_execution_completed_event_attributes.result
                new = new_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED, result=result, **attributes)
                resolution = ChildWorkflowResult(completed=ChildDone(result=result.payloads[0]))
            case Status.WORKFLOW_EXECUTION_STATUS_CANCELED:
                new = new_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED, **attributes)
                failure = self.failure(canceled_failure(), "cancelled")
                resolution = ChildWorkflowResult(cancelled=Cancellation(failure=failure))
            case Status.WORKFLOW_EXECUTION_STATUS_TERMINATED:
                new = new_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED, **attributes)
                failure = self.failure(terminated_failure(), "terminated")
                resolution = ChildWorkflowResult(failed=ChildFailed(failure=failure))
            case Status.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
                new = new_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT, **attributes)
                failure = self.failure(timeout_failure(_START_TO_CLOSE, ""), "timed out")
                resolution = ChildWorkflowResult(failed=ChildFailed(failure=failure))
            case _:
                cause = last.workflow_execution_failed_event_attributes.failure
                new = new_event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED, failure=cause, **attributes)
                resolution = ChildWorkflowResult(failed=ChildFailed(failure=self.failure(cause, "failed")))
        job = WorkflowActivationJob(
            resolve_child_workflow_execution=ResolveChildWorkflowExecution(seq=self.command.seq, result=resolution)
        )
        self.parent.deliver(new, job=None if self._is_resolved else job)
        self.is_closed = True
        self.parent.prune_closed()

    def failure(self, cause: Failure, outcome: str) -> Failure:
        """The failure that the parent's code gets.

        Args:
            outcome: For its message, such as "cancelled".
        """
        return child_failure(
            cause,
            workflow_id=self.command.workflow_id,
            run_id=self.run_id,
            workflow_type=self.command.workflow_type,
            initiated=self.initiated,
            started=self._started.event_id if self._started is not None else 0,
            message=f"Child Workflow execution {outcome}",
        )

    def on_parent_closed(self) -> None:
        """Enable the parent close policy."""
        if self._run is not None and self._run.is_open:
            self._run.enable("parent has ended", self._apply_close_policy)

    def _apply_close_policy(self) -> None:
        run, policy = self._run, self.command.parent_close_policy
        if run is None or not run.is_open or policy == ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON:
            return
        if policy == ParentClosePolicy.PARENT_CLOSE_POLICY_REQUEST_CANCEL:
            run.request_cancel("", sender=self.parent)
        else:
            run.terminate("by parent close policy")

    # -- cancellation --------------------------------------------------------------------------------------

    def request_cancel(self, reason: str, task_completed: int) -> None:
        """Request cancellation; whether the code waits for it is in the command. A repeated request has no effect."""
        if self._is_resolved:
            return
        if self.command.cancellation_type in UNAWAITED_CANCELLATIONS:
            self._is_resolved = True
            self.parent.tasks.resolve_buffered(self._is_resolution)
        if self.command.cancellation_type == ChildWorkflowCancellationType.ABANDON:
            return
        initiated = self.parent.record(
            new_event(
                EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
                workflow_task_completed_event_id=task_completed,
                namespace=NAMESPACE,
                workflow_execution=WorkflowExecution(workflow_id=self.command.workflow_id),
                child_workflow_only=True,
                reason=reason,
            )
        )
        detail = f"{self.command.seq} {reason}"
        self.parent.enable("cancellation is delivered", lambda: self._deliver_cancel(reason, initiated), detail=detail)

    def _is_resolution(self, job: WorkflowActivationJob) -> bool:
        kind = job.WhichOneof("variant") or ""
        return kind in _RESOLUTIONS and getattr(job, kind).seq == self.command.seq

    def _deliver_cancel(self, reason: str, initiated: int) -> None:
        attributes = {
            "initiated_event_id": initiated,
            "namespace": NAMESPACE,
            "workflow_execution": WorkflowExecution(workflow_id=self.command.workflow_id),
        }
        if self._run is None:
            # It has not started, and will start as if there was no request: as on servers.
            new = new_event(
                EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED,
                cause=CANCEL_TARGET_NOT_FOUND,
                **attributes,
            )
        else:
            self._run.request_cancel(reason, sender=self.parent)
            new = new_event(EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED, **attributes)
        self.parent.deliver(new, job=None)
