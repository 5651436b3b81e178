# What invoice_mcp.testing has, for type checkers and for lazy_loader, which loads it when it is used.

from ._actions import LETTERS, Action, Verb
from ._base_world import DAY, PAST, an_invoice
from ._checker import check
from ._engine import ENTRY_POINTS, Engine, EngineKind, EngineStuck, EngineWorker, kinds, register
from ._leaving import run_and_leave
from ._model import Model
from ._observations import Observations, Run, observe
from ._playing import ModelViolated, play
from ._ports import Attempt, Outcome, Paid, RecordingPayments, ScriptedErp, Stamp
from ._scenario import Line, Scenario
from ._seed import SeedWorld, open_seed_world
from ._seed_ports import SeedNames
from ._stage import ERAS, StageKeeper
from ._stage_runner import StageRunner
from ._task_door import DOORS, Door, TaskTools
from ._tools import Answer, ToolRefused, Tools
from ._trace import Arrival, Trace, trace_of
from ._violations import RULES, Violation, Violations
from ._words import prefixes, words
from ._world import World, open_world

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
