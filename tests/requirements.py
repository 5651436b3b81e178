"""The behaviour that invoice-mcp promises, by id. `tests/unit/test_requirements.py` checks that each id has a test."""

from __future__ import annotations

from typing import Final

import pytest

REQUIREMENTS: Final[dict[str, str]] = {
    # Invoices
    "INV-SAMPLE": "The original sample's JSON is accepted unchanged.",
    "INV-FAULTS": "One answer names every fault of an invoice, each with its place.",
    "INV-MONEY": "Money is a decimal in an ISO 4217 currency, with that currency's decimals.",
    "INV-ZONE": "A due date has a time zone.",
    "INV-UNKNOWN": "Unknown fields are refused by name; metadata is carried to the ERP untouched.",
    "INV-METADATA-NULL": "Metadata of null means no metadata: the same invoice as without.",
    "INV-BOUNDS": "At most 500 lines, 64 characters of invoice id from [A-Za-z0-9._-], 256 KiB of JSON.",
    # Start
    "START-ID": "The workflow id is invoice-<invoice_id>.",
    "START-REPEATED": "The same invoice again, while it runs or after it is PAID, returns the existing run.",
    "START-CONFLICT": "Other content under an invoice id that runs or is PAID is refused.",
    "START-RESUBMITTED": "After REJECTED, EXPIRED, FAILED or CANCELLED a new run may start and pays no line twice.",
    "START-INVALID": "trigger refuses an invalid invoice and starts no workflow.",
    "START-GARBAGE": "A workflow started past trigger with invalid input fails; it does not hang.",
    # Validation
    "VALID-RETRY": "An ERP that is down is tried up to five times.",
    "VALID-DOWN": "An ERP that is down at every attempt: FAILED with that reason, nothing paid.",
    "VALID-MISMATCH": "A mismatch is final: FAILED at once, with the ERP's reason.",
    # Waiting and deciding
    "WAIT-EXPIRES": "No decision before the deadline: EXPIRED, nothing paid.",
    "WAIT-POLICY": "The approval timeout is part of the invoice's input: five days unless submitted with another.",
    "DECIDE-APPROVE": "An approval lets every line be paid.",
    "DECIDE-REJECT": "A rejection ends the invoice, nothing paid.",
    "DECIDE-FIRST": "The first decision is final: the opposite one is refused, naming what was decided, by whom, when.",
    "DECIDE-REPEAT": "Repeating a decision is acknowledged without effect.",
    "DECIDE-EARLY": "A decision before the end of the validation counts.",
    "DECIDE-LATE": "After a terminal status a decision is refused with that status.",
    "DECIDE-EDGE": "A decision just before the deadline counts; at the deadline and after it, it is refused.",
    "DECIDE-WHO": "The report tells who decided, when, and with which comment.",
    "DECIDE-CONFIRMED": "Summaries and refusals say how a decision was confirmed; they name nobody who was not asked.",
    "SIGNAL-BASELINE": "The original sample's signals and queries work, by the same rules; a late signal is ignored.",
    "SIGNAL-POLICY": "An approving signal is refused and counted, unless the policy in the input allows it.",
    "ATTACK-MODEL": "Calls of Temporal's own API, past the MCP server, do no more than the model allows.",
    "ATTACK-LINE": "A line's workflow that no invoice waits for pays nothing, whoever started it.",
    "ATTACK-RESET": "After a reset only lines that the new run waits for are paid; its report shows earlier ones.",
    # Paying
    "PAY-CHILD": "One child workflow PayLineItem a line, id <workflow id>-line-<n>.",
    "PAY-DUE": "A line is paid on its due date, not before; a line due in the past at once.",
    "PAY-RETRY": "A payment is tried up to three times; INSUFFICIENT_FUNDS is not retried.",
    "PAY-FAILED": "A refused line makes the invoice FAILED; the report says for each line what happened.",
    "PAY-ALL-FAILED": "All lines refused: FAILED, each line named.",
    "PAY-ONCE": "A response lost after the payment does not cause a second payment.",
    "PAY-UNCONFIRMED": "A refusal after an attempt without a response, in this run or an earlier one, is unconfirmed.",
    "PAY-AMBIGUOUS": "A payment id that is returned for two lines confirms neither.",
    "PAY-KEY": "The idempotency key is made of invoice id, line number and line content, not of the run.",
    # Cancelling
    "CANCEL-BEFORE": "Cancelled before a decision: CANCELLED, nothing paid, a cancelled execution.",
    "CANCEL-PAYING": "Cancelled while paying: waiting lines are not paid, a payment in progress finishes.",
    # Tools
    "TOOL-LIST": "Six tools, with titles, descriptions, annotations and output schemas.",
    "TOOL-SCHEMAS": "Schemas are small, contain no references and no internals, and strict hosts accept them.",
    "TOOL-ANSWER": "Text content is the summary, then compact JSON; no answer contains idempotency keys.",
    "TOOL-DECLARED": "The server declares only capabilities that it has: no prompts, no resources.",
    "TOOL-HOSTS": "Arguments that known hosts add are ignored; other unknown arguments are named.",
    "TOOL-NAMES": "Titles and descriptions are about invoices; --tool-prefix precedes every name, in texts too.",
    "TOOL-CODES": "Every error is a tool error that starts with a stable code and says what to do next.",
    "TOOL-NOT-FOUND": "An id of no invoice is NOT_FOUND, also if another kind of workflow has it.",
    "TOOL-WAIT": "status with wait_seconds answers when the status changes, and reports progress.",
    "TOOL-PROTOCOLS": "Clients of the current and of the older protocol get the same service.",
    "TOOL-TEXT": "Hostile text is refused or carried unchanged; it never causes a traceback.",
    "TEXT-QUOTED": "Text of others is quoted in every sentence, so that it can't be read as the server's own.",
    "TEXT-VISIBLE": "Quoted text is one line, hides nothing, has no live markup, is bounded; ordinary names stay.",
    "TEXT-INPUT": "New invoices and decisions may not contain invisible names or line separators.",
    "RPC-ERRORS": "Input that is no valid message gets the JSON-RPC error, with its id where one can be found.",
    "STDIO-END": "Each request read before the end of stdin is answered.",
    "LIST-STATUS": "list finds invoices by status.",
    "LIST-PAGES": "list returns all invoices page by page, each once, except those that change in between.",
    "LIST-UNSUPPORTED": "Where the server can't list, the tool says so.",
    "LIST-INDEX": "The workflow input says whether InvoiceStatus is set; a worker registers it or runs without.",
    # Tasks
    "TASK-GENERIC": "Another project turns its workflow into a task in about twenty lines.",
    "TASK-ENDINGS": "A tool error completes the task with isError; a protocol error or an operator's action fails it.",
    "TASK-HEADERS": "An Mcp-Name that differs from the task's id, or is missing, is refused: -32020.",
    "TASK-LISTEN": "A subscriber is notified of every change of a task, by any server.",
    "TASK-MRTR": "Questions asked before the task exists are answered first.",
    "TASK-STORE": "A task is its workflow, also continued or reset: any server serves it from its id alone.",
    "TASK-ID": "An id of no task (invented, misspelt, of another workflow) is unknown: -32602.",
    "TASK-CAPABILITY": "Only clients that declare tasks get tasks; others get the plain answer, or -32021.",
    "TASK-UPDATE": "Answers to questions that are not open are ignored; unreadable ones are an error, change nothing.",
    "TASK-CANCEL": "Every cancellation is acknowledged; it cancels only what is not approved.",
    "TASK-WIRE": "Times are those of the history; durations are whole milliseconds; a task is kept for its ttlMs.",
    "TASK-WAITS": "A task waits for days.",
    "TASK-INVOICE": "An invoice that waits for approval asks for the decision; then the task ends with the report.",
    "TASK-FIRST-DECISION": "The first decision is final, whether it was made by a tool or through the task.",
    "TASK-CLIENT": "The client extension completes a task: polls, asks the person once, returns the result.",
    "TASK-KILLED": "Server, worker or Temporal killed between any two steps: the task continues, nothing is lost.",
    "TASK-REPLICAS": "Over stdio and over HTTP; two servers behind one address answer in turn.",
    # Confirming
    "CONFIRM-ASK": "A client that shows forms has to confirm an approval; anything but a yes approves nothing.",
    "CONFIRM-POLICY": "--approval=trust asks nobody; ask-or-refuse refuses clients without forms, by tool and by task.",
    "CONFIRM-DEFAULT": "The default is ask with the embedded parts, else ask-or-refuse; the server logs it.",
    "CONFIRM-QUESTION": "Only an answer to a question that was asked counts, for an hour; its key can't be computed.",
    "CONFIRM-RECORD": "A decision records how it was confirmed and what was shown; it names nobody who was not asked.",
    "CONFIRM-RUN": "A confirmation counts only for the run, name and comment that were shown; any server accepts it.",
    # The harness
    "SEQUENCES-ALL": "Every action sequence up to a length is answered and ends as in the model, all promises kept.",
    "SEQUENCES-RANDOM": "So does a random sequence on a random invoice, in both protocol modes, also eagerly.",
    "INTERLEAVINGS-ALL": "So does a small invoice, whatever is done to it, in every order in which events can happen.",
    "ENGINES-AGREE": "A scenario has the same answers, reports, payments and commands on simulator and servers.",
    "HARNESS-CONTROLS": "Every deliberately broken workflow is caught.",
    "CONTENT-KEPT": "Every field given to trigger reaches workflow, ERP, gateway and report unchanged.",
    "HARNESS-MUTANTS": "Mutants of product or harness that once survived every check are killed.",
    "HARNESS-BASELINE": "The checker finds the six faults of the original sample through its signals and queries.",
    "SIMULATE-CLEAN": "simulate: thousands of random episodes of the real workflows break no promise.",
    "SIMULATE-DETECTS": "simulate finds a broken workflow: a small scenario, its timeline, a command that replays it.",
    "SIMULATE-DETERMINISTIC": "The same seed simulates the same episodes, in whatever process and order.",
    "SIMULATE-CLI": "simulate: progress, table, --json, --html; exit 0, 1, 2, or 130 with the totals so far.",
    "SIMULATOR-RESET": "A reset has the same effect in the simulator as on the real server, or raises NotSimulated.",
    "SIMULATOR-PROJECTS": "Another project simulates its own workflows.",
    "HARNESS-CLIENTS": "A world uses the plain tools or the task, and detects where they differ.",
    "HARNESS-PLUGIN": "Another project's tests use the worlds through the pytest plugin.",
    "HARNESS-REPRODUCE": "A failure prints the scenario as Python and one command that runs it again.",
    # Histories
    "HISTORY-CORPUS": "Every path of both workflows is recorded, replays exactly, and contains no personal data.",
    "HISTORY-NONDETERMINISM": "Code that issues other commands than recorded is reported, with what to do about it.",
    "HISTORY-STRICT": "Code that issues the same commands with other values is reported, field by field.",
    "HISTORY-PATCH": "A change passes if a patch guards it, and as long as the patch that it needs is there.",
    "HISTORY-GATE": "The gate fails on a corpus that is empty, unreadable or incomplete, and on missing code.",
    "HISTORY-HANGS": "Code that hangs or ends its process fails its recording; the others are replayed.",
    "HISTORY-ACCEPTED": "Drift that is accepted with a reason passes; an acceptance that matches no drift fails.",
    "HISTORY-RECORD": "A release is recorded as a whole, once; it is never overwritten.",
    "HISTORY-PULL": "Histories pulled from a live namespace are scrubbed and replay.",
    "HISTORY-COVERAGE": "coverage shows which recordings take which path, and which patches nothing needs any more.",
    "HISTORY-PROJECTS": "The same command gates the workflows of any project.",
    "HISTORY-MUTANTS": "docs/mutants.md shows for every mutant of the workflows which oracle kills it.",
    "HISTORY-DEPLOYMENT": "An invoice pinned to its version, or upgraded midway, is approved and paid.",
    # Startup
    "STARTUP-HANDSHAKE": "Handshake and tools/list are answered at once, also while Temporal starts, hangs or is down.",
    "STARTUP-WAITS": "A call before Temporal is connected waits some seconds; then it is served, or told why not.",
    "STARTUP-FAILS": "An embedded Temporal that fails to start is logged once, reported by every tool, and retried.",
    # Temporal
    "TEMPORAL-CHOICE": "Flags, then Temporal's environment, then the embedded server.",
    "TEMPORAL-DOWN": "No Temporal: every tool answers TEMPORAL_UNAVAILABLE within ten seconds.",
    "TEMPORAL-NO-WORKER": "No worker: every tool that needs one answers NO_WORKER within ten seconds.",
    "TEMPORAL-BUSY": "Where a worker may exist and no answer comes in time, the code is NO_ANSWER, not NO_WORKER.",
    "TEMPORAL-SHARED": "Two servers share one embedded Temporal; when its owner is killed the other continues.",
    "TEMPORAL-RESTART": "After all processes are killed and restarted, a waiting invoice can be approved and paid.",
    "TEMPORAL-CLEAN": "After a clean shutdown no process is left.",
    "TEMPORAL-RETENTION": "The embedded namespace keeps closed executions at least 90 days.",
    "EMBEDDED-CLOSED": "No web page can signal the embedded Temporal; its Web UI is off by default, and logged if on.",
    "EMBEDDED-RISK": "serve logs who can reach the embedded Temporal; a real ERP or gateway needs explicit acceptance.",
    "LOCAL-RISK": "With a real ERP or gateway, a local Temporal without TLS and key is logged as open.",
    "EMBEDDED-PRIVATE": "Home and files are private to their user; another user's, or a symbolic link, is refused.",
    "EMBEDDED-SECRETS": "No password in a command line, nor in the environment of guardian and server.",
    "EMBEDDED-FAULTS": "A stopped guardian affects no one; a full or read-only disk is reported in the server's words.",
    "TEMPORAL-DELETED": "An invoice whose execution was deleted is not paid twice.",
    # Ports
    "PORT-LEDGER": "A payment requested twice, or by two processes at once, is one payment with one id.",
    "PORT-ERP": "Refusals by the ERP are distinguished from failures to reach it.",
    "PORT-GATEWAY": "Refusals by the gateway are distinguished from failures to reach it.",
    "PORT-ANSWER": "A response counts only for its request: one connection per call, and its echo has to match.",
    # Local state
    "STATE-LOST": "A ledger or Temporal database newer than the other one is reported; nothing is paid.",
    "STATE-LINE": "A line of an invoice is paid once: the ledger refuses it under another key, and says what was paid.",
    "STATE-BACKUP": "backup copies files in use; after a restore the invoice continues and nothing is paid twice.",
    # Command line
    "CLI-HELP": "--help has examples; --version and python -m invoice_mcp work.",
    "CLI-DEMO": "The demo plays an invoice to PAID, or to --reject or --expire, and leaves nothing behind.",
    "CLI-FAIL": "--fail-validate and --fail-payment make the embedded ERP or gateway refuse.",
    "CLI-STDOUT": "Only protocol messages go to stdout.",
    "CLI-STDIO": "A stdin or stdout that fails ends serve with one line; on a terminal it says what it waits for.",
    "CLI-LOG-LEVEL": "Regular events are logged as INFO and shown; -v shows details.",
    "CLI-WORKER": "A worker alone stops cleanly on SIGTERM.",
    "CLI-HTTP": "serve --http serves the same tools over streamable HTTP.",
    # HTTP
    "HTTP-HOSTS": "Only allowed Host and Origin values are served; off loopback they have to be named.",
    "HTTP-BOUNDS": "Headers, bodies, connections and sessions are bounded in size, time and number; streams are not.",
    "HTTP-SESSIONS": "A client of the older protocol is asked in its session; without sessions it is refused.",
    "HTTP-STOPS": "On a stop signal it ends within seconds, also with open calls or forms; their clients get an error.",
    "LOG-BOUNDED": "A log message has a bounded length and shows invisible characters as escapes.",
    "LOG-RETRIES": "An attempt that will be retried is one line in the log, without a traceback.",
    "LOG-THREAD": "Logging never blocks the caller, and a stderr that is not read stops nothing.",
    # Chaos
    "CHAOS-SCHEDULE": "A seed gives one schedule of actions and faults; as printed it is parsed and run again.",
    "CHAOS-GATEWAY": "The hostile gateway does what each fault says, and records every request and payment.",
    "CHAOS-JUDGEMENT": "What is lost, stuck, paid twice, untrue, late or left behind after healing is a finding.",
    "CHAOS-EPISODE": "Real processes are killed and stopped at the moments of a schedule, healed and judged.",
    "CHAOS-REPORT": "A campaign reports expected, got, timeline and command; its exit status tells how it went.",
    "CHAOS-CONTROLS": "The campaign catches defects that are planted in the product, within a bounded number of seeds.",
}


def requirement(*ids: str) -> pytest.MarkDecorator:
    """Mark a test with the requirements that it verifies.

    Raises:
        KeyError: An id is not in `REQUIREMENTS`.
    """
    for each in ids:
        if each not in REQUIREMENTS:
            raise KeyError(each)
    return pytest.mark.requirement(*ids)
