"""Every undocumented part of the SDK that the simulator depends on, by name.

If an upgrade of temporalio breaks one of these tests, review the simulator before you rely on it. If the simulator
cannot be imported any more, the shared fixtures cannot either: run this file with --noconftest.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from importlib import import_module
from typing import Any

import pytest
from google.protobuf.message import Message
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.service import ServiceClient
from temporalio.testing import ActivityEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

from tests.unit.testing.simulator import workflows

DEPENDS_ON = "The simulator depends on this part of temporalio, which has changed: "
QUEUE = "toys"

DETAILS = {
    "payload_converter_factory", "failure_converter_class", "interceptor_classes", "defn", "info", "randomness_seed",
    "extern_functions", "disable_eager_activity_execution", "worker_level_failure_exception_types",
    "patch_activation_callback", "last_completion_result", "last_failure", "default_workflow_logic_flags",
}  # fmt: skip

EXTERN = {"__temporal_get_metric_meter", "__temporal_assert_local_activity_valid"}

# The jobs that core can deliver to workflow code. The simulator delivers all but the unused ones.
JOBS = {
    "cancel_workflow", "do_update", "fire_timer", "initialize_workflow", "notify_has_patch", "query_workflow",
    "remove_from_cache", "resolve_activity", "resolve_child_workflow_execution",
    "resolve_child_workflow_execution_start", "resolve_request_cancel_external_workflow",
    "resolve_signal_external_workflow", "signal_workflow",
}  # fmt: skip
UNUSED_JOBS = {"resolve_nexus_operation", "resolve_nexus_operation_start", "update_random_seed"}

# Commands without a handler, for which the simulator raises NotSimulated.
UNSIMULATED_COMMANDS = {
    "cancel_signal_workflow", "continue_as_new_workflow_execution", "request_cancel_local_activity",
    "request_cancel_nexus_operation", "schedule_local_activity", "schedule_nexus_operation",
}  # fmt: skip
ANSWERS = {"respond_to_query"}

# Requests of the client that the simulator handles.
REQUESTS = {
    "start_workflow_execution", "signal_with_start_workflow_execution", "signal_workflow_execution",
    "request_cancel_workflow_execution", "terminate_workflow_execution", "update_workflow_execution",
    "poll_workflow_execution_update", "query_workflow", "describe_workflow_execution",
    "get_workflow_execution_history", "list_workflow_executions", "count_workflow_executions", "get_system_info",
    "describe_task_queue", "describe_namespace",
}  # fmt: skip


def imported(module: str, name: str = "") -> Any:
    """Import a module, or a name from it, inside a test, so that the test reports what is missing."""
    try:
        there = import_module(module)
    except ImportError as missing:
        pytest.fail(DEPENDS_ON + f"{module} can't be imported: {missing}")
    assert not name or hasattr(there, name), DEPENDS_ON + f"there is no {module}.{name}"
    return getattr(there, name) if name else there


def simulator_attribute(name: str, module: str = "") -> Any:
    return imported(f"temporal_simulator{module}", name)


def variants(message: type[Message]) -> set[str]:
    return {field.name for field in message.DESCRIPTOR.oneofs_by_name["variant"].fields}


def test_workflow_instances_have_this_class() -> None:
    kept_in = imported("temporalio.worker._workflow_instance", "_WorkflowInstanceImpl")
    assert issubclass(kept_in, WorkflowInstance), DEPENDS_ON + "what an instance is made by"


def test_workflow_code_calls_these_extern_functions() -> None:
    declared = imported("temporalio.worker._workflow_instance", "_WorkflowExternFunctions").__annotations__
    # Python mangles these names in a class.
    functions = {name.removeprefix("_WorkflowExternFunctions") for name in declared}
    assert functions == EXTERN, DEPENDS_ON + "the functions that code calls outside of its sandbox"
    worker = simulator_attribute("Worker")([], [])
    assert set(worker._extern) == EXTERN


def test_instances_are_created_from_these_details() -> None:
    assert {each.name for each in dataclasses.fields(WorkflowInstanceDetails)} == DETAILS, DEPENDS_ON + "its details"


def test_runners_create_instances_and_instances_take_activations() -> None:
    makes = list(inspect.signature(WorkflowRunner.create_instance).parameters)
    assert makes == ["self", "det"], DEPENDS_ON + "how a runner makes instances"
    prepares = list(inspect.signature(WorkflowRunner.prepare_workflow).parameters)
    assert prepares == ["self", "defn"], DEPENDS_ON + "how a runner prepares workflows"
    takes = list(inspect.signature(WorkflowInstance.activate).parameters)
    assert takes == ["self", "act"], DEPENDS_ON + "how an instance is activated"
    assert issubclass(UnsandboxedWorkflowRunner, WorkflowRunner), DEPENDS_ON + "the runner without a sandbox"
    abstract: frozenset[str] = WorkflowInstance.__abstractmethods__
    answers = set(vars(simulator_attribute("MemoizedInstance", ".worker.memoize")))
    assert abstract <= answers, DEPENDS_ON + f"an instance can be asked {sorted(abstract - answers)}"


def test_every_activation_job_is_known() -> None:
    definition = variants(imported("temporalio.bridge.proto.workflow_activation", "WorkflowActivationJob"))
    assert definition == JOBS | UNUSED_JOBS, DEPENDS_ON + "the jobs of an activation"


def test_every_command_has_a_handler_or_is_listed_as_not_simulated() -> None:
    wanted = variants(imported("temporalio.bridge.proto.workflow_commands", "WorkflowCommand"))
    carried_out = set(simulator_attribute("_HANDLERS", ".server.commands"))
    assert wanted == carried_out | UNSIMULATED_COMMANDS | ANSWERS, DEPENDS_ON + "the commands of a workflow"


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_the_client_calls_these_requests(name: str) -> None:
    service = imported("temporalio.bridge.services_generated", "WorkflowService")
    assert hasattr(service, name), DEPENDS_ON + f"the request {name}"
    assert hasattr(simulator_attribute("SimulatedService", ".client.service"), f"_{name}")


def test_a_service_client_has_one_abstract_rpc_method() -> None:
    abstract: frozenset[str] = ServiceClient.__abstractmethods__
    abstract_methods = {"_rpc_call", "update_api_key", "update_rpc_metadata", "worker_service_client"}
    assert abstract == abstract_methods, DEPENDS_ON + "what a service client has to have"
    parameters = {"self", "rpc", "req", "resp_type", "service", "retry", "metadata", "timeout"}
    assert set(inspect.signature(ServiceClient._rpc_call).parameters) == parameters, DEPENDS_ON + "its calls"
    takes = inspect.signature(Client.__init__).parameters
    assert "service_client" in takes, DEPENDS_ON + "that a client is given its service"


def test_workflow_and_activity_definitions_can_be_read() -> None:
    @activity.defn(name="named too")
    async def toy(text: str) -> None: ...

    for module, reader in ((workflow, "must_from_class"), (activity, "must_from_callable")):
        definitions = getattr(module, "_Definition", None)
        assert hasattr(definitions, reader), DEPENDS_ON + f"{module.__name__}._Definition.{reader}"
    assert workflow._Definition.must_from_class(workflows.Inbox).name == "Inbox", (
        DEPENDS_ON + "definitions of workflows"
    )
    definition = activity._Definition.must_from_callable(toy)
    assert (definition.name, definition.arg_types) == ("named too", [str]), DEPENDS_ON + "definitions of activities"


def test_an_activity_environment_takes_info_and_converter() -> None:
    environment = ActivityEnvironment()
    fields = {each.name for each in dataclasses.fields(type(environment.info))}
    needed = {"activity_id", "attempt", "started_time", "workflow_run_id", "activity_run_id"}
    assert fields >= needed, DEPENDS_ON + f"activity.Info lacks {sorted(needed - fields)}"
    assert {"payload_converter", "info"} <= set(vars(environment)), DEPENDS_ON + "the environment of activities"


def test_workflow_info_has_these_fields() -> None:
    known: set[str] = {each.name for each in dataclasses.fields(workflow.Info)}
    assert known == {
        "attempt", "continued_run_id", "cron_schedule", "execution_timeout", "first_execution_run_id", "headers",
        "namespace", "original_execution_run_id", "parent", "priority", "raw_memo", "retry_policy", "root", "run_id",
        "run_timeout", "search_attributes", "start_time", "task_queue", "task_timeout", "typed_search_attributes",
        "workflow_id", "workflow_start_time", "workflow_type",
    }, DEPENDS_ON + "workflow.Info"  # fmt: skip


async def test_the_running_event_loop_can_be_set() -> None:
    loop: Any = asyncio.get_running_loop()
    asyncio._set_running_loop(loop)
    assert asyncio.get_running_loop() is loop, "The simulator depends on asyncio._set_running_loop"


# The attributes of an instance that are in its fingerprint, and those that are not, with the reason.
IN_FINGERPRINT = {
    "_buffered_signals", "_cancel_reason", "_curr_seqs", "_current_details", "_in_progress_signals",
    "_in_progress_updates", "_object", "_patches_memoized", "_patches_notified", "_pending_activities",
    "_pending_child_workflows", "_pending_external_cancels", "_pending_external_signals", "_pending_timers", "_random",
    "_signals", "_tasks", "_updates",
}  # fmt: skip
NOT_IN_FINGERPRINT = {
    # Constant during a run.
    "__temporal_workflow_runtime", "_context_free_failure_converter", "_context_free_payload_converter",
    "_current_seed", "_default_workflow_logic_flags", "_defn", "_disable_eager_activity_execution",
    "_dynamic_failure_exception_types", "_extern_functions", "_inbound", "_info", "_last_completion_result",
    "_last_failure", "_logger_details", "_outbound", "_patch_activation_callback", "_queries", "_seed_callbacks",
    "_versioning_behavior", "_worker_level_failure_exception_types", "_workflow_context_failure_converter",
    "_workflow_context_payload_converter", "_workflow_input",
    # Of the last activation only.
    "_cancel_primary_task_pending", "_continue_as_new_suggested", "_current_history_length", "_current_history_size",
    "_current_thread_id", "_deleting", "_deployment_version_for_current_task", "_in_query_or_validator",
    "_is_replaying", "_read_only", "_ready", "_target_worker_deployment_version_changed", "_time_ns",
    # Implied by other attributes or by the state of the server; or a number that only names something.
    "_conditions", "_exception_handler", "_handled_signals_seq", "_metric_meter", "_pending_nexus_operations",
    "_primary_task", "_untyped_converted_memo",
}  # fmt: skip


async def test_every_attribute_of_an_instance_is_in_its_fingerprint_or_listed() -> None:
    simulation = simulator_attribute("Simulation")()
    simulation.start_worker(QUEUE, simulator_attribute("Worker")([workflows.Timers], []))
    run = simulation.start(simulator_attribute("Start")("toy", "Timers", QUEUE))
    await simulation.run()
    kept = set(vars(simulation.create_instance(run, 0)))
    assert kept <= IN_FINGERPRINT | NOT_IN_FINGERPRINT, (
        DEPENDS_ON + f"instances keep {sorted(kept - IN_FINGERPRINT - NOT_IN_FINGERPRINT)}"
    )
    assert kept >= IN_FINGERPRINT, DEPENDS_ON + f"instances do not keep {sorted(IN_FINGERPRINT - kept)}"
    await simulation.close()
