"""Children: workflows that another one wanted, from their beginning to what becomes of them when that has ended."""

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
from temporalio.bridge.proto.workflow_commands import (
    StartChildWorkflowExecution,
    WorkflowCommand,
)

from temporal_simulator.event_queue import SECOND
from temporal_simulator.protocol.command_kinds import AT_ONCE
from temporal_simulator.protocol.events import (
    NAMESPACE,
    NOBODY_TO_CANCEL,
    canceled,
    child_failure,
    event,
    nanoseconds,
    terminated,
    timed_out,
)
from temporal_simulator.protocol.start import Start

if TYPE_CHECKING:
    from temporal_simulator.server.execution import Execution

_TELLS = frozenset({"resolve_child_workflow_execution_start", "resolve_child_workflow_execution"})
_TASK_TIMEOUT = 10 * SECOND
_START_TO_CLOSE = TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
_ALREADY_EXISTS = (
    StartChildWorkflowExecutionFailedCause.START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS
)


class Child:
    """A workflow that another one wanted.

    Attributes:
        owner: Who wanted it.
        order: What it wanted.
        initiated: Number of the event.
        is_over: It has ended, or could not begin.
    """

    def __init__(
        self,
        owner: Execution,
        order: StartChildWorkflowExecution,
        command: WorkflowCommand,
        completed: int,
        *,
        initiated: int = 0,
    ) -> None:
        """Begin one.

        Args:
            completed: Number of the event of the workflow task that ended with that.
            initiated: Number of its event, where that is written already: then it has yet to begin, or to be followed.
        """
        self.owner = owner
        self.order = order
        self.is_over = self._is_told = False
        self._run: Execution | None = None
        self._started: HistoryEvent | None = None
        self._command = command
        self.initiated = initiated or self._record(completed)
        if not initiated:
            self.begin_unless_begun()

    def _record(self, completed: int) -> int:
        order = self.order
        initiated = event(
            EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
            namespace=NAMESPACE,
            workflow_id=order.workflow_id,
            workflow_type=WorkflowType(name=order.workflow_type),
            task_queue=TaskQueue(name=order.task_queue),
            input=Payloads(payloads=order.input),
            workflow_execution_timeout=order.workflow_execution_timeout,
            workflow_run_timeout=order.workflow_run_timeout,
            workflow_task_timeout=order.workflow_task_timeout,
            parent_close_policy=order.parent_close_policy,
            workflow_id_reuse_policy=order.workflow_id_reuse_policy,
            header={"fields": order.headers},
            memo=Memo(fields=order.memo),
            search_attributes=order.search_attributes,
            workflow_task_completed_event_id=completed,
        )
        initiated.user_metadata.CopyFrom(self._command.user_metadata)
        return self.owner.record(initiated)

    def begin_unless_begun(self) -> None:
        """It begins in a moment."""
        if self._run is None and not self.is_over:
            self.owner.soon("child starts", self._start, about=str(self.order.seq))

    def _start(self) -> None:
        order, owner = self.order, self.owner
        if not owner.is_open and order.parent_close_policy != ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON:
            return
        if order.HasField("retry_policy") or order.cron_schedule:
            owner.simulation.raise_not_simulated("a child workflow with a retry policy or a cron schedule")
        start = Start(
            workflow_id=order.workflow_id,
            workflow_type=order.workflow_type,
            task_queue=order.task_queue,
            input=Payloads(payloads=order.input),
            task_timeout=nanoseconds(order.workflow_task_timeout) or _TASK_TIMEOUT,
            run_timeout=nanoseconds(order.workflow_run_timeout),
            execution_timeout=nanoseconds(order.workflow_execution_timeout),
            memo=Memo(fields=order.memo),
            search_attributes=SearchAttributes(indexed_fields=order.search_attributes.indexed_fields),
            header=order.headers,
            user_metadata=self._command.user_metadata,
            parent=self,
        )
        run = owner.simulation.start_if_allowed(start, order.workflow_id_reuse_policy)
        if run is None:
            self.tell_taken()
        else:
            self._tell_started(run)

    def _tell_started(self, run: Execution) -> None:
        order, self._run = self.order, run
        self._started = event(
            EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED,
            namespace=NAMESPACE,
            initiated_event_id=self.initiated,
            workflow_execution=run.name,
            workflow_type=WorkflowType(name=order.workflow_type),
        )
        succeeded = ResolveChildWorkflowExecutionStartSuccess(run_id=run.run_id)
        self._tell_start(self._started, ResolveChildWorkflowExecutionStart(seq=order.seq, succeeded=succeeded))

    def tell_taken(self) -> None:
        """It can't begin: another workflow has its id."""
        order = self.order
        failed = event(
            EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED,
            namespace=NAMESPACE,
            workflow_id=order.workflow_id,
            workflow_type=WorkflowType(name=order.workflow_type),
            cause=_ALREADY_EXISTS,
            initiated_event_id=self.initiated,
        )
        failure = ResolveChildWorkflowExecutionStartFailure(
            workflow_id=order.workflow_id,
            workflow_type=order.workflow_type,
            cause=FailedToStart.START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS,
        )
        self.is_over = True
        self._tell_start(failed, ResolveChildWorkflowExecutionStart(seq=order.seq, failed=failure))
        self.owner.forget_ended()

    def _tell_start(self, new: HistoryEvent, resolved: ResolveChildWorkflowExecutionStart) -> None:
        job = WorkflowActivationJob(resolve_child_workflow_execution_start=resolved)
        self.owner.arrive(new, job=None if self._is_told else job)

    # -- after a reset of its owner ------------------------------------------------------------------------

    def follow(self, started: HistoryEvent) -> Execution:
        """It has begun, as this event of its owner's tells; the owner that goes on will learn how it ends."""
        self._started = started
        self._run = self._found(started.child_workflow_execution_started_event_attributes.workflow_execution.run_id)
        return self._run

    def tell_started(self, run_id: str) -> None:
        """It has begun in the meantime."""
        if self._run is None:
            self._tell_started(self._found(run_id))

    def tell_end_at_once(self) -> None:
        """It has ended in the meantime."""
        assert self._run is not None  # noqa: S101 (it had begun)
        self._tell_end(self._run, self._run.history[-1])

    def _found(self, run_id: str) -> Execution:
        run = self.owner.simulation.find(self.order.workflow_id, run_id)
        assert run is not None  # noqa: S101 (whoever began it kept it)
        run.awaited_by = self
        return run

    @property
    def run_id(self) -> str:
        """Of its run; empty before that has started."""
        return self._run.run_id if self._run is not None else ""

    def digest(self) -> Hashable:
        """What its owner's code does not know of it, or need not."""
        ending = self._run.ending() if self._run is not None and not self._run.is_open else ""
        order = self.order.SerializeToString(deterministic=True)
        return order, self.run_id, self._is_told, ending

    # -- its end -------------------------------------------------------------------------------------------

    def tell_end(self, run: Execution, last: HistoryEvent) -> None:
        """It has ended: its owner will learn that."""
        about = str(self.order.seq)
        self.owner.soon("child's end is told", lambda: self._tell_end(run, last), about=about)

    def _tell_end(self, run: Execution, last: HistoryEvent) -> None:
        if run.awaited_by is not None and run.awaited_by is not self:
            # Its owner was reset in the meantime.
            run.awaited_by.tell_end(run, last)
            return
        told = {
            "namespace": NAMESPACE,
            "workflow_execution": run.name,
            "workflow_type": WorkflowType(name=self.order.workflow_type),
            "initiated_event_id": self.initiated,
            "started_event_id": self._started.event_id if self._started is not None else 0,
        }
        match run.status:
            case Status.WORKFLOW_EXECUTION_STATUS_COMPLETED:
                result = last.workflow_execution_completed_event_attributes.result
                new = event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED, result=result, **told)
                resolved = ChildWorkflowResult(completed=ChildDone(result=result.payloads[0]))
            case Status.WORKFLOW_EXECUTION_STATUS_CANCELED:
                new = event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED, **told)
                resolved = ChildWorkflowResult(cancelled=Cancellation(failure=self.failure(canceled(), "cancelled")))
            case Status.WORKFLOW_EXECUTION_STATUS_TERMINATED:
                new = event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED, **told)
                resolved = ChildWorkflowResult(failed=ChildFailed(failure=self.failure(terminated(), "terminated")))
            case Status.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
                new = event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT, **told)
                resolved = ChildWorkflowResult(
                    failed=ChildFailed(failure=self.failure(timed_out(_START_TO_CLOSE, ""), "timed out"))
                )
            case _:
                failure = last.workflow_execution_failed_event_attributes.failure
                new = event(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED, failure=failure, **told)
                resolved = ChildWorkflowResult(failed=ChildFailed(failure=self.failure(failure, "failed")))
        job = WorkflowActivationJob(
            resolve_child_workflow_execution=ResolveChildWorkflowExecution(seq=self.order.seq, result=resolved)
        )
        self.owner.arrive(new, job=None if self._is_told else job)
        self.is_over = True
        self.owner.forget_ended()

    def failure(self, cause: Failure, how: str) -> Failure:
        """How its owner's code learns that it ended otherwise than well."""
        return child_failure(
            cause,
            workflow_id=self.order.workflow_id,
            run_id=self.run_id,
            workflow_type=self.order.workflow_type,
            initiated=self.initiated,
            started=self._started.event_id if self._started is not None else 0,
            message=f"Child Workflow execution {how}",
        )

    def lose_parent(self) -> None:
        """Its owner has ended."""
        if self._run is not None and self._run.is_open:
            self._run.soon("parent has ended", self._follow_policy)

    def _follow_policy(self) -> None:
        run, policy = self._run, self.order.parent_close_policy
        if run is None or not run.is_open or policy == ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON:
            return
        if policy == ParentClosePolicy.PARENT_CLOSE_POLICY_REQUEST_CANCEL:
            run.request_cancel("", sender=self.owner)
        else:
            run.terminate("by parent close policy")

    # -- its cancellation ----------------------------------------------------------------------------------

    def request_cancel(self, reason: str, completed: int) -> None:
        """The owner's code wants it cancelled; whether it waits for that is in the order."""
        if self._is_told:
            # Cancelled again.
            return
        if self.order.cancellation_type in AT_ONCE:
            self._is_told = True
            self.owner.tasks.leave_untold(self._is_about_it)
        if self.order.cancellation_type == ChildWorkflowCancellationType.ABANDON:
            return
        initiated = self.owner.record(
            event(
                EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
                workflow_task_completed_event_id=completed,
                namespace=NAMESPACE,
                workflow_execution=WorkflowExecution(workflow_id=self.order.workflow_id),
                child_workflow_only=True,
                reason=reason,
            )
        )
        about = f"{self.order.seq} {reason}"
        self.owner.soon("cancellation is delivered", lambda: self._deliver_cancel(reason, initiated), about=about)

    def _is_about_it(self, job: WorkflowActivationJob) -> bool:
        kind = job.WhichOneof("variant") or ""
        return kind in _TELLS and getattr(job, kind).seq == self.order.seq

    def _deliver_cancel(self, reason: str, initiated: int) -> None:
        about = {
            "initiated_event_id": initiated,
            "namespace": NAMESPACE,
            "workflow_execution": WorkflowExecution(workflow_id=self.order.workflow_id),
        }
        if self._run is None:
            # It has not started yet, and when it does nobody remembers: so it is on servers too.
            new = event(
                EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED, cause=NOBODY_TO_CANCEL, **about
            )
        else:
            self._run.request_cancel(reason, sender=self.owner)
            new = event(EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED, **about)
        self.owner.arrive(new, job=None)
