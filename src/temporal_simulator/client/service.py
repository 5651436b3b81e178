"""The gRPC service of a simulated server, for Temporal's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar, cast

import temporalio.api.enums.v1 as enums
import temporalio.api.workflowservice.v1 as api
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Payloads
from temporalio.api.history.v1 import History
from temporalio.api.query.v1 import QueryRejected
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.api.workflow.v1 import WorkflowExecutionExtendedInfo
from temporalio.bridge.proto.health.v1 import HealthCheckResponse
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.service import ConnectConfig, RPCStatusCode, ServiceClient

from temporal_simulator.client.responses import (
    already_started_error,
    execution_info,
    pending_activity_info,
    pending_child_info,
    rpc_error,
    update_outcome,
    update_ref,
    update_stage,
)
from temporal_simulator.client.visibility import UnsupportedQueryError, select
from temporal_simulator.protocol.events import NAMESPACE, to_nanoseconds, to_timestamp
from temporal_simulator.protocol.start import Start
from temporal_simulator.server.execution import Execution
from temporal_simulator.server.reset import reapply_options, reset
from temporal_simulator.simulation import Simulation
from temporal_simulator.worker.replay import WorkflowTaskFailedError

R = TypeVar("R", bound=Message)
_Conflict = enums.WorkflowIdConflictPolicy
_Stage = enums.UpdateWorkflowExecutionLifecycleStage
_RETENTION = timedelta(days=1)
_POLL_INTERVAL = 0.01
_TASK_COMPLETED = enums.EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
_CLOSE_EVENT = enums.HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT


def connect(simulation: Simulation, *, data_converter: DataConverter = DataConverter.default) -> Client:
    """Create a Temporal client that is connected to a simulation.

    Args:
        data_converter: As for `Client.connect`. It must have no payload codec.

    Example:
        client = connect(simulation)
        handle = await client.start_workflow(Greeting.run, "Ann", id="greet-ann", task_queue="queue")
    """
    return Client(SimulatedService(simulation), namespace=NAMESPACE, data_converter=data_converter)


class SimulatedService(ServiceClient):
    """Handles the requests of a client: each by the method of its name. Other requests are UNIMPLEMENTED."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(ConnectConfig(target_host="simulated:0", identity="simulated"))
        self._simulation = simulation

    @property
    def worker_service_client(self) -> Any:
        """Raises NotImplementedError: workers of the SDK cannot poll here."""
        raise NotImplementedError("Workers of the SDK cannot poll a simulation: use Simulation.start_worker")

    def update_rpc_metadata(self, metadata: Mapping[str, str | bytes]) -> None:
        """No effect."""

    def update_api_key(self, api_key: str | None) -> None:
        """No effect."""

    async def _rpc_call(
        self,
        rpc: str,
        req: Message,
        resp_type: type[R],
        *,
        service: str,
        retry: bool,
        metadata: Mapping[str, str | bytes],
        timeout: timedelta | None,  # noqa: ASYNC109 (the SDK's signature)
    ) -> R:
        handler = getattr(self, f"_{rpc}", None)
        if handler is None:
            raise rpc_error(RPCStatusCode.UNIMPLEMENTED, f"{rpc} is not simulated")
        limit = timeout.total_seconds() if timeout else None
        try:
            async with asyncio.timeout(limit):
                return cast(R, await handler(req))
        except TimeoutError:
            raise rpc_error(RPCStatusCode.DEADLINE_EXCEEDED, "Timeout expired") from None

    def _find_run(self, workflow_id: str, run_id: str) -> Execution:
        run = self._simulation.find(workflow_id, run_id)
        if run is None:
            raise rpc_error(RPCStatusCode.NOT_FOUND, f"workflow not found for ID: {workflow_id}")
        return run

    def _open_run(self, workflow_id: str, run_id: str) -> Execution:
        run = self._find_run(workflow_id, run_id)
        if not run.is_open:
            raise rpc_error(RPCStatusCode.NOT_FOUND, "workflow execution already completed")
        return run

    def _require_worker(self, run: Execution) -> None:
        if run.start.task_queue not in self._simulation.workers:
            raise rpc_error(
                RPCStatusCode.FAILED_PRECONDITION, "no poller seen for task queue recently, worker may be down"
            )

    # -- start ---------------------------------------------------------------------------------------------

    async def _start_workflow_execution(
        self, request: api.StartWorkflowExecutionRequest
    ) -> api.StartWorkflowExecutionResponse:
        run, is_new = self._start(request)
        await self._simulation.run_before_reply()
        return api.StartWorkflowExecutionResponse(run_id=run.run_id, first_execution_run_id=run.run_id, started=is_new)

    async def _signal_with_start_workflow_execution(
        self, request: api.SignalWithStartWorkflowExecutionRequest
    ) -> api.SignalWithStartWorkflowExecutionResponse:
        run = self._simulation.find(request.workflow_id)
        is_new = run is None or not run.is_open
        if run is None or not run.is_open:
            run, _ = self._start(request)
        run.signal(request.signal_name, request.signal_input, request.header.fields)
        await self._simulation.run_before_reply()
        return api.SignalWithStartWorkflowExecutionResponse(run_id=run.run_id, started=is_new)

    def _start(
        self, request: api.StartWorkflowExecutionRequest | api.SignalWithStartWorkflowExecutionRequest
    ) -> tuple[Execution, bool]:
        for field in ("retry_policy", "workflow_start_delay"):
            if request.HasField(field) or request.cron_schedule:
                self._simulation.raise_not_simulated(f"a workflow with {field.replace('_', ' ')} or a cron schedule")
        if unknown := self._simulation.search_attribute_error(request.search_attributes):
            raise rpc_error(RPCStatusCode.INVALID_ARGUMENT, unknown)
        self._simulation.tick()
        before = self._simulation.find(request.workflow_id)
        if before is not None and before.is_open:
            match request.workflow_id_conflict_policy:
                case _Conflict.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING:
                    return before, False
                case _Conflict.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING:
                    before.terminate("terminated by a new run")
        start = Start(
            workflow_id=request.workflow_id,
            workflow_type=request.workflow_type.name,
            task_queue=request.task_queue.name,
            input=request.input,
            task_timeout=to_nanoseconds(request.workflow_task_timeout) or Start.task_timeout,
            run_timeout=to_nanoseconds(request.workflow_run_timeout),
            execution_timeout=to_nanoseconds(request.workflow_execution_timeout),
            memo=request.memo,
            search_attributes=request.search_attributes,
            header=request.header.fields,
            user_metadata=request.user_metadata,
        )
        run = self._simulation.start_if_allowed(start, request.workflow_id_reuse_policy)
        if run is None:
            assert before is not None  # it is what forbids the start
            raise already_started_error(before)
        return run, True

    # -- signal, cancel, terminate -------------------------------------------------------------------------

    async def _signal_workflow_execution(
        self, request: api.SignalWorkflowExecutionRequest
    ) -> api.SignalWorkflowExecutionResponse:
        run = self._open_run(request.workflow_execution.workflow_id, request.workflow_execution.run_id)
        self._simulation.tick()
        run.signal(request.signal_name, request.input, request.header.fields)
        await self._simulation.run_before_reply()
        return api.SignalWorkflowExecutionResponse()

    async def _request_cancel_workflow_execution(
        self, request: api.RequestCancelWorkflowExecutionRequest
    ) -> api.RequestCancelWorkflowExecutionResponse:
        run = self._find_run(request.workflow_execution.workflow_id, request.workflow_execution.run_id)
        _require_first(run, request.first_execution_run_id)
        self._simulation.tick()
        run.request_cancel(request.reason)
        await self._simulation.run_before_reply()
        return api.RequestCancelWorkflowExecutionResponse()

    async def _terminate_workflow_execution(
        self, request: api.TerminateWorkflowExecutionRequest
    ) -> api.TerminateWorkflowExecutionResponse:
        run = self._open_run(request.workflow_execution.workflow_id, request.workflow_execution.run_id)
        _require_first(run, request.first_execution_run_id)
        self._simulation.tick()
        run.terminate(request.reason)
        await self._simulation.run_before_reply()
        return api.TerminateWorkflowExecutionResponse()

    async def _reset_workflow_execution(
        self, request: api.ResetWorkflowExecutionRequest
    ) -> api.ResetWorkflowExecutionResponse:
        base = self._find_run(request.workflow_execution.workflow_id, request.workflow_execution.run_id)
        if not 1 < request.workflow_task_finish_event_id <= len(base.history):
            message = "Workflow task finish ID must be > 1 && <= workflow last event ID."
            raise rpc_error(RPCStatusCode.INVALID_ARGUMENT, message)
        if request.post_reset_operations:
            self._simulation.raise_not_simulated("a reset with operations after it")
        self._simulation.tick()
        signals, updates = reapply_options(request)
        finish, reason = request.workflow_task_finish_event_id, request.reason
        new = reset(self._simulation, base, finish, reason, signals=signals, updates=updates)
        await self._simulation.run_before_reply()
        return api.ResetWorkflowExecutionResponse(run_id=new.run_id)

    # -- update --------------------------------------------------------------------------------------------

    async def _update_workflow_execution(
        self, request: api.UpdateWorkflowExecutionRequest
    ) -> api.UpdateWorkflowExecutionResponse:
        named = request.workflow_execution
        run = self._find_run(named.workflow_id, named.run_id)
        update = run.tasks.find(request.request.meta.update_id)
        if update is None:
            self._simulation.tick()
            update = self._open_run(named.workflow_id, named.run_id).tasks.request_update(request.request)
        await self._simulation.run_before_reply()
        if request.wait_policy.lifecycle_stage == _Stage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED:
            # Shielded, because several requests may wait for the same update.
            await asyncio.shield(update.outcome)
        else:
            # It is accepted or rejected already, unless there is no worker.
            while not update.accepted and not update.outcome.done():
                await asyncio.sleep(_POLL_INTERVAL)
        return api.UpdateWorkflowExecutionResponse(
            update_ref=update_ref(run, update), outcome=update_outcome(update), stage=update_stage(update)
        )

    async def _poll_workflow_execution_update(
        self, request: api.PollWorkflowExecutionUpdateRequest
    ) -> api.PollWorkflowExecutionUpdateResponse:
        named = request.update_ref.workflow_execution
        run = self._find_run(named.workflow_id, named.run_id)
        update = run.tasks.find(request.update_ref.update_id)
        if update is None:
            raise rpc_error(RPCStatusCode.NOT_FOUND, f"update {request.update_ref.update_id} not found")
        await asyncio.shield(update.outcome)
        return api.PollWorkflowExecutionUpdateResponse(
            update_ref=update_ref(run, update), outcome=update_outcome(update), stage=update_stage(update)
        )

    # -- read ----------------------------------------------------------------------------------------------

    async def _query_workflow(self, request: api.QueryWorkflowRequest) -> api.QueryWorkflowResponse:
        run = self._find_run(request.execution.workflow_id, request.execution.run_id)
        rejects = request.query_reject_condition
        if rejects == enums.QueryRejectCondition.QUERY_REJECT_CONDITION_NOT_OPEN and not run.is_open:
            return api.QueryWorkflowResponse(query_rejected=QueryRejected(status=run.status))
        self._require_worker(run)
        # The workflow processes earlier events before it answers.
        await self._simulation.run(until=lambda: not run.tasks.has_open_task)
        while run.tasks.has_open_task and self._simulation.is_attached_to_loop:
            # A worker crashed during a workflow task, which has to time out first.
            await asyncio.sleep(_POLL_INTERVAL)
            self._require_worker(run)
        if run.tasks.has_open_task:
            raise rpc_error(
                RPCStatusCode.DEADLINE_EXCEEDED,
                "the workflow task was lost in a worker crash and has to time out first: let time pass",
            )
        if run.tasks.is_failing:
            raise rpc_error(RPCStatusCode.DEADLINE_EXCEEDED, "the workflow task of this workflow keeps failing")
        if not run.is_open and all(each.event_type != _TASK_COMPLETED for each in run.history):
            message = "Workflow execution closed before WorkflowTaskStarted event"
            raise rpc_error(RPCStatusCode.FAILED_PRECONDITION, message)
        try:
            answer = run.tasks.query(request.query)
        except WorkflowTaskFailedError as failed:
            raise rpc_error(RPCStatusCode.INVALID_ARGUMENT, str(failed)) from None
        return api.QueryWorkflowResponse(query_result=Payloads(payloads=[answer]))

    async def _describe_workflow_execution(
        self, request: api.DescribeWorkflowExecutionRequest
    ) -> api.DescribeWorkflowExecutionResponse:
        run = self._find_run(request.execution.workflow_id, request.execution.run_id)
        activities, children = run.pending
        return api.DescribeWorkflowExecutionResponse(
            workflow_execution_info=execution_info(run),
            workflow_extended_info=WorkflowExecutionExtendedInfo(
                reset_run_id=run.reset_to, original_start_time=to_timestamp(run.origin.started_at)
            ),
            pending_children=map(pending_child_info, children),
            pending_activities=map(pending_activity_info, activities),
        )

    async def _get_workflow_execution_history(
        self, request: api.GetWorkflowExecutionHistoryRequest
    ) -> api.GetWorkflowExecutionHistoryResponse:
        run = self._find_run(request.execution.workflow_id, request.execution.run_id)
        if request.history_event_filter_type == _CLOSE_EVENT:
            if request.wait_new_event:
                await run.closed.wait()
            return api.GetWorkflowExecutionHistoryResponse(history=History(events=run.history[-1:]))
        if not request.wait_new_event:
            return api.GetWorkflowExecutionHistoryResponse(history=History(events=run.history))
        start = int(request.next_page_token or b"0")
        while len(run.history) <= start and run.is_open:
            await run.wait_for_event()
        return api.GetWorkflowExecutionHistoryResponse(
            history=History(events=run.history[start:]),
            next_page_token=str(len(run.history)).encode() if run.is_open else b"",
        )

    async def _list_workflow_executions(
        self, request: api.ListWorkflowExecutionsRequest
    ) -> api.ListWorkflowExecutionsResponse:
        found = sorted(self._selected(request.query), key=_list_position)
        if request.next_page_token:
            last = _parse_page_token(request.next_page_token)
            found = [run for run in found if _list_position(run) > last]
        size = request.page_size or len(found)
        page = found[:size]
        # As on servers, a full page has a token, although the next page may be empty.
        more = json.dumps(_list_position(page[-1])).encode() if page and len(page) == size else b""
        return api.ListWorkflowExecutionsResponse(executions=map(execution_info, page), next_page_token=more)

    async def _count_workflow_executions(
        self, request: api.CountWorkflowExecutionsRequest
    ) -> api.CountWorkflowExecutionsResponse:
        return api.CountWorkflowExecutionsResponse(count=len(self._selected(request.query)))

    def _selected(self, query: str) -> list[Execution]:
        try:
            return select(self._simulation.runs(), query, self._simulation.search_attributes)
        except UnsupportedQueryError as error:
            raise rpc_error(RPCStatusCode.INVALID_ARGUMENT, str(error)) from None

    # -- server and namespace ------------------------------------------------------------------------------

    async def _check(self, request: Message) -> HealthCheckResponse:
        return HealthCheckResponse(status=HealthCheckResponse.ServingStatus.SERVING)

    async def _get_system_info(self, request: api.GetSystemInfoRequest) -> api.GetSystemInfoResponse:
        return api.GetSystemInfoResponse(server_version="simulated")

    async def _describe_task_queue(self, request: api.DescribeTaskQueueRequest) -> api.DescribeTaskQueueResponse:
        if request.task_queue.name not in self._simulation.workers:
            return api.DescribeTaskQueueResponse()
        # In real time, because clients compare it with their own clock.
        accessed = Timestamp()
        accessed.GetCurrentTime()
        return api.DescribeTaskQueueResponse(pollers=[PollerInfo(last_access_time=accessed, identity="simulated")])

    async def _describe_namespace(self, request: api.DescribeNamespaceRequest) -> api.DescribeNamespaceResponse:
        response = api.DescribeNamespaceResponse()
        response.namespace_info.name = request.namespace
        response.config.workflow_execution_retention_ttl.FromTimedelta(_RETENTION)
        return response


def _list_position(run: Execution) -> tuple[bool, int, int, str]:
    """Sort key of lists: open runs first, then those that closed last."""
    return not run.is_open, -run.ended_at, -run.started_at, run.run_id


def _parse_page_token(token: bytes) -> tuple[Any, ...]:
    try:
        return tuple(json.loads(token))
    except (ValueError, TypeError):
        raise rpc_error(RPCStatusCode.INVALID_ARGUMENT, "invalid page token") from None


def _require_first(run: Execution, first_run_id: str) -> None:
    """Raise NOT_FOUND if the client means another chain of runs. Here only resets make chains."""
    if first_run_id and first_run_id != run.origin.run_id:
        raise rpc_error(RPCStatusCode.NOT_FOUND, "workflow execution not found")
