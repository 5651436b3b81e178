"""The harness: what a test of invoices, or of anything built on them, needs. Free of pytest."""

from invoice_mcp.testing._actions import LETTERS, Action, Verb
from invoice_mcp.testing._base_world import DAY, PAST, an_invoice
from invoice_mcp.testing._checker import check
from invoice_mcp.testing._engine import ENTRY_POINTS, Engine, EngineKind, EngineStuck, EngineWorker, kinds, register
from invoice_mcp.testing._leaving import run_and_leave
from invoice_mcp.testing._model import Model
from invoice_mcp.testing._observations import Observations, Run, observe
from invoice_mcp.testing._playing import ModelViolated, play
from invoice_mcp.testing._ports import Attempt, Outcome, Paid, RecordingPayments, ScriptedErp, Stamp
from invoice_mcp.testing._scenario import Line, Scenario
from invoice_mcp.testing._seed import SeedWorld, open_seed_world
from invoice_mcp.testing._seed_ports import SeedNames
from invoice_mcp.testing._stage import ERAS, StageKeeper
from invoice_mcp.testing._stage_runner import StageRunner
from invoice_mcp.testing._task_door import DOORS, Door, TaskTools
from invoice_mcp.testing._tools import Answer, ToolRefused, Tools
from invoice_mcp.testing._trace import Arrival, Trace, trace_of
from invoice_mcp.testing._violations import RULES, Violation, Violations
from invoice_mcp.testing._words import prefixes, words
from invoice_mcp.testing._world import World, open_world

__all__ = [
    "DAY",
    "DOORS",
    "ENTRY_POINTS",
    "ERAS",
    "LETTERS",
    "PAST",
    "RULES",
    "Action",
    "Answer",
    "Arrival",
    "Attempt",
    "Door",
    "Engine",
    "EngineKind",
    "EngineStuck",
    "EngineWorker",
    "Line",
    "Model",
    "ModelViolated",
    "Observations",
    "Outcome",
    "Paid",
    "RecordingPayments",
    "Run",
    "Scenario",
    "ScriptedErp",
    "SeedNames",
    "SeedWorld",
    "StageKeeper",
    "StageRunner",
    "Stamp",
    "TaskTools",
    "ToolRefused",
    "Tools",
    "Trace",
    "Verb",
    "Violation",
    "Violations",
    "World",
    "an_invoice",
    "check",
    "kinds",
    "observe",
    "open_seed_world",
    "open_world",
    "play",
    "prefixes",
    "register",
    "run_and_leave",
    "trace_of",
    "words",
]
