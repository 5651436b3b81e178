"""What invoice-mcp promises, as data. Every behaviour has a test, and every id a test names is here."""

from __future__ import annotations

from typing import Final

import pytest

REQUIREMENTS: Final[dict[str, str]] = {
    # Invoices
    "INV-SAMPLE": "The seed's sample JSON is accepted as it stands.",
    "INV-FAULTS": "Every fault of an invoice is named in one answer, with its place.",
    "INV-MONEY": "Money is a decimal in an ISO 4217 currency, with that currency's decimals.",
    "INV-ZONE": "A due date carries a zone.",
    "INV-UNKNOWN": "Unknown fields are refused by name; metadata is carried to the ERP untouched.",
    "INV-BOUNDS": "At most 500 lines, 64 characters of invoice id from [A-Za-z0-9._-], 256 KiB of JSON.",
    # Start
    "START-ID": "The workflow id is invoice-<invoice_id>.",
    "START-AGAIN": "The same invoice again, while it runs or after it is PAID, is the run that is there.",
    "START-CONFLICT": "Other content under an invoice id that runs or is PAID is refused.",
    "START-ANEW": "After REJECTED, EXPIRED, FAILED or CANCELLED a new run may start; paid lines are not paid again.",
    "START-INVALID": "Garbage is refused by trigger and starts no workflow.",
    "START-GARBAGE": "A workflow started with garbage behind trigger's back fails; it does not hang.",
    # Validation
    "VALID-RETRY": "An ERP that is down is asked again, up to five times.",
    "VALID-DOWN": "An ERP down after all attempts: FAILED, the reason says so, nothing paid.",
    "VALID-MISMATCH": "A mismatch is final: FAILED at once, with the ERP's reason.",
    # Waiting and deciding
    "WAIT-EXPIRES": "No decision within the window: EXPIRED, nothing paid.",
    "WAIT-POLICY": "The window travels with the invoice: five days by default, another if submitted so.",
    "DECIDE-APPROVE": "An approval lets every line be paid.",
    "DECIDE-REJECT": "A rejection ends the invoice, nothing paid.",
    "DECIDE-FIRST": "The first decision is final: the opposite one is refused and says what, by whom, when.",
    "DECIDE-REPEAT": "Repeating a decision is acknowledged without effect.",
    "DECIDE-EARLY": "A decision before validation has ended counts.",
    "DECIDE-LATE": "After a terminal status a decision is refused with that status.",
    "DECIDE-EDGE": "A decision just before the deadline counts; at the deadline and after it, it is refused.",
    "DECIDE-WHO": "The report tells who decided, when, and with which comment.",
    "DECIDE-CONFIRMED": "Summary and refusals say how a decision was confirmed, and assert nobody who was not asked.",
    "SIGNAL-SEED": "The seed's signals and queries work, under the same rules; a late signal is ignored.",
    "SIGNAL-POLICY": "An approving signal is refused and counted, unless the policy in the input lets signals approve.",
    "ATTACK-MODEL": "What comes by Temporal's own API, past the MCP server, does no more than the model allows.",
    # Paying
    "PAY-CHILD": "One child workflow PayLineItem a line, id <workflow id>-line-<n>.",
    "PAY-DUE": "A line is paid on its due date, not before; a past one at once.",
    "PAY-RETRY": "A payment is tried up to three times; INSUFFICIENT_FUNDS is not tried again.",
    "PAY-FAILED": "A refused line makes the invoice FAILED, and the report says for each line what happened.",
    "PAY-ALL-FAILED": "All lines refused: FAILED, each line named.",
    "PAY-ONCE": "An answer lost after the payment was made does not pay twice.",
    "PAY-REPEATED": "A refusal after an attempt without a verdict, in this run or an earlier one, is unconfirmed.",
    "PAY-NAMED": "A payment that is named for two lines confirms neither.",
    "PAY-KEY": "The idempotency key is made of invoice id, line number and line content, not of the run.",
    # Cancelling
    "CANCEL-BEFORE": "Cancelled before a decision: CANCELLED, nothing paid, a cancelled execution.",
    "CANCEL-PAYING": "Cancelled while paying: waiting lines are not paid, a payment under way finishes.",
    # Tools
    "TOOL-LIST": "Six tools, with titles, descriptions, annotations and output schemas.",
    "TOOL-CODES": "Every error is a tool error with a stable code first, and says what to do next.",
    "TOOL-NOT-FOUND": "An id that is no invoice's is NOT_FOUND, also if some other workflow has it.",
    "TOOL-WAIT": "status with wait_seconds answers when the status changes, with progress.",
    "TOOL-ERAS": "Clients of the current and of the older protocol are served alike.",
    "TOOL-TEXT": "Hostile text is refused or carried, never a traceback.",
    "TEXT-OURS": "What others wrote is quoted in every sentence, so that it can't be read as the server's own.",
    "TEXT-SHOWN": "Quoted text is one line, hides nothing, is no live markup, and is bounded; ordinary names stay.",
    "TEXT-ENTERS": "New invoices and decisions are refused names that show nothing, and separators of lines.",
    "LIST-STATUS": "list finds invoices by status.",
    "LIST-UNABLE": "Where the server can't list, the tool says so.",
    "LIST-INDEX": "Whether InvoiceStatus is set travels in the input; a worker registers it or runs without.",
    # Tasks
    "TASK-GENERIC": "Another project makes its workflow a task in about twenty lines.",
    "TASK-ENDINGS": "A tool error is completed with isError, a protocol error is failed, an operator's hand too.",
    "TASK-HEADERS": "Mcp-Name that differs from the task's id, or is missing, is refused: -32020.",
    "TASK-LISTEN": "Who listens is told a task whenever it has changed, by any server.",
    "TASK-MRTR": "What is asked before there is a task is answered first.",
    "TASK-STORE": "A task is its workflow, continued or reset: any server answers for it, from its id alone.",
    "TASK-ID": "An id that is no task's, made up, misspelt or of another workflow, is unknown: -32602.",
    "TASK-CAPABILITY": "Only clients that declare tasks get any; the others get the plain answer, or -32021.",
    "TASK-UPDATE": "Answers to what is not asked are ignored; what can't be read is an error and changes nothing.",
    "TASK-CANCEL": "Cancelling is acknowledged, as often as asked for; it cancels what is not approved, and only that.",
    "TASK-WIRE": "Times are the history's; spans are whole milliseconds; a task is kept for its ttlMs.",
    "TASK-WAITS": "A task waits for days.",
    "TASK-INVOICE": "A waiting invoice asks for its decision; after it, the task ends with the report.",
    "TASK-DOORS": "The first decision is final, whether it came by a tool or by the task.",
    "TASK-CLIENT": "A client extension leads a task to its end: polls, asks the person once, returns the result.",
    "TASK-KILLED": "Server, worker or Temporal killed between any two steps: the task goes on, nothing is lost.",
    "TASK-REPLICAS": "Over stdio and over HTTP; two servers behind one address answer in turn.",
    # Confirming
    "CONFIRM-ASK": "A client that shows forms has to confirm an approval; whatever is not a yes approves nothing.",
    "CONFIRM-POLICY": "--approval=trust asks nobody; ask-or-refuse refuses where nobody can be asked, by any door.",
    "CONFIRM-DEFAULT": "Where money may be real the default is ask-or-refuse, with the embedded parts ask; it is told.",
    "CONFIRM-QUESTION": "Only the answer to a question that was asked counts, for an hour; nobody can compute its key.",
    "CONFIRM-RECORD": "A decision tells how it was confirmed and what was shown, and of nobody who was not asked.",
    "CONFIRM-RUN": "A confirmation counts for the run, name and comment that were shown only; any server takes it.",
    # The harness
    "WORDS-ALL": "Every word of actions up to a length is answered and ends as the model says, all promises kept.",
    "WORDS-RANDOM": "So does a random word on a random invoice, in both eras of the protocol, also in haste.",
    "ORDER-ALL": "So does a small invoice, whatever is done to it, in every order in which things can happen.",
    "ENGINES-AGREE": "A scenario goes on the simulator as on the servers: same answers, reports, payments, commands.",
    "HARNESS-CONTROLS": "Every workflow that is broken on purpose is caught.",
    "CONTENT-KEPT": "Every field that trigger is given reaches workflow, ERP, gateway and report as it was submitted.",
    "HARNESS-MUTANTS": "Edits of product or harness that once passed every check are noticed.",
    "HARNESS-SEED": "The checker judges any workflow with the seed's signals and queries: the seed's six faults.",
    "SIMULATE-CLEAN": "simulate: thousands of random lives of the real workflows break nothing.",
    "SIMULATE-CONVICTS": "simulate convicts a broken workflow: a small scenario, its story, how to play it again.",
    "SIMULATE-SAME": "The same seed simulates the same lives, in whatever process and order.",
    "SIMULATE-CLI": "simulate: progress, table, --json, --html; exit 0, 1, 2, or 130 with the totals so far.",
    "SIMULATOR-FOREIGN": "Another project simulates workflows of its own.",
    "HARNESS-DOORS": "A world goes by the plain tools or by the task, and notices where they say different things.",
    "HARNESS-PLUGIN": "Another project's tests use the worlds through the pytest plugin.",
    "HARNESS-AGAIN": "A failure prints the scenario as Python and the one command that plays it again.",
    # Histories
    "HISTORY-CORPUS": "Every path of both workflows is recorded, replays to the letter, and names nobody.",
    "HISTORY-NONDETERMINISM": "Code that does something else than was recorded is told, with what to do about it.",
    "HISTORY-STRICT": "Code that does the same with other values is told, field by field.",
    "HISTORY-PATCH": "A change passes if it is guarded by a patch, and as long as the patch is there that it needs.",
    "HISTORY-GATE": "The gate fails on a corpus that is empty, unreadable or incomplete, and on code that is missing.",
    "HISTORY-HANGS": "Code that hangs, or ends its process, fails its recording, and the others are replayed.",
    "HISTORY-ACCEPTED": "Drift that is accepted with a reason passes; an acceptance of what is not there fails.",
    "HISTORY-RECORD": "A release is recorded as a whole, once; it is never recorded over.",
    "HISTORY-PULL": "What is pulled from a live namespace is scrubbed, and replays.",
    "HISTORY-COVERAGE": "It is told which recordings take which path, and which patches nothing needs any more.",
    "HISTORY-FOREIGN": "Any project's workflows are gated by the same command.",
    "HISTORY-MUTANTS": "docs/mutants.md tells of every edit of the workflows who notices: somebody, if it breaks them.",
    "HISTORY-DEPLOYMENT": "Pinned to its version or upgraded on the way, an invoice is approved and paid.",
    # Temporal
    "TEMPORAL-CHOICE": "Flags, then Temporal's environment, then the embedded server.",
    "TEMPORAL-AWAY": "No Temporal: every tool answers TEMPORAL_UNAVAILABLE within ten seconds.",
    "TEMPORAL-NO-WORKER": "No worker: every tool that needs one answers NO_WORKER within ten seconds.",
    "TEMPORAL-SHARED": "Two servers share one embedded Temporal; when the owner is killed the other goes on.",
    "TEMPORAL-RESTART": "All killed and started again: a waiting invoice is still there, approvable, payable.",
    "TEMPORAL-CLEAN": "After a clean end of all no process is left.",
    "TEMPORAL-KEEPS": "The embedded namespace keeps closed executions at least 90 days.",
    "EMBEDDED-SHUT": "No web page can signal on the embedded Temporal; its Web UI is off unless asked for, then told.",
    "EMBEDDED-RISK": "Who can reach the embedded Temporal is told at start; a real ERP or gateway needs that accepted.",
    "EMBEDDED-PRIVATE": "Home and files are for their user only; another user's, or a symbolic link, is refused.",
    "EMBEDDED-SECRETS": "No password in a command line, nor in the environment of guardian and server.",
    "EMBEDDED-TROUBLE": "A stopped guardian disturbs nobody; a full or read-only disk is told in the server's words.",
    "TEMPORAL-FORGOTTEN": "An invoice whose execution is forgotten is not paid twice.",
    # Ports
    "PORT-LEDGER": "A payment asked for twice, or by two processes at once, is one payment with one id.",
    "PORT-ERP": "Refusals of the ERP are told apart from trouble in reaching it.",
    "PORT-GATEWAY": "Refusals of the gateway are told apart from trouble in reaching it.",
    "PORT-ANSWER": "An answer counts only for what was asked: one connection a call, and an echo has to match.",
    # Local state
    "STATE-LOST": "A ledger or Temporal database that begins anew while the other goes on is told; nothing is paid.",
    "STATE-LINE": "A line of an invoice is paid once: the ledger refuses it under another key, and says what was paid.",
    "STATE-BACKUP": "backup copies what is in use; restored, the invoice goes on, and nothing is paid twice.",
    # Command line
    "CLI-HELP": "--help teaches; --version and python -m invoice_mcp work.",
    "CLI-DEMO": "The demo plays an invoice to PAID, or to --reject or --expire, and leaves nothing behind.",
    "CLI-FAIL": "--fail-validate and --fail-payment make the embedded ERP or gateway refuse.",
    "CLI-STDOUT": "Nothing but protocol goes to stdout.",
    "CLI-WORKER": "A worker alone stops cleanly on SIGTERM.",
    "CLI-HTTP": "serve --http serves the same tools over streamable HTTP.",
    # HTTP
    "HTTP-HOSTS": "Only requests to allowed hosts and of their pages are answered; off loopback they must be named.",
    "HTTP-BOUNDS": "Headers, bodies, connections and sessions are bounded in size, time and number; streams are not.",
    "HTTP-SESSIONS": "A client of the older protocol is asked in its session; without sessions, it is refused.",
    "LOG-BOUNDED": "A log message has a bounded length and shows what could not be seen.",
    "LOG-THREAD": "Whoever logs does not wait until it is written, and a stderr that nobody reads stops nothing.",
}


def requirement(*ids: str) -> pytest.MarkDecorator:
    """Say which behaviours a test shows."""
    for each in ids:
        if each not in REQUIREMENTS:
            raise KeyError(each)
    return pytest.mark.requirement(*ids)
