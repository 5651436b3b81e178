"""Mutation operators for workflow code. Each yields its edits of one node of the syntax tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import libcst as cst
from libcst import matchers as m

Edit = tuple[str, cst.CSTNode, cst.CSTNode]
"""The description of an edit, the node, and its replacement."""

_OTHER_STATUS: Mapping[str, str] = {
    "FAILED": "EXPIRED",
    "REJECTED": "EXPIRED",
    "EXPIRED": "REJECTED",
    "CANCELLED": "FAILED",
    "PAID": "FAILED",
    "PENDING_VALIDATION": "PENDING_APPROVAL",
    "PENDING_APPROVAL": "PENDING_VALIDATION",
    "APPROVED": "PAYING",
    "PAYING": "APPROVED",
}
_OTHER_LINE_STATUS: Mapping[str, str] = {
    "PAID": "FAILED",
    "FAILED": "PAID",
    "CANCELLED": "FAILED",
    "PENDING": "SCHEDULED",
    "SCHEDULED": "PENDING",
    "NOT_PAID": "CANCELLED",
}
_NEGATED: Mapping[type[cst.BaseCompOp], cst.BaseCompOp] = {
    cst.GreaterThan: cst.LessThan(),
    cst.GreaterThanEqual: cst.LessThan(),
    cst.Equal: cst.NotEqual(),
    cst.Is: cst.IsNot(),
    cst.IsNot: cst.Is(),
}
# Statements with an effect that a server or a person observes; not log lines.
_EFFECTS = (
    "_move_to(",
    "_close(",
    "wait_condition(",
    "sleep(",
    "cancel()",
    "_cancel_line(",
    "_update_line(",
    "_decide(",
)
# Statements of these that have no effect the second time.
_IDEMPOTENT = ("_update_line(", "wait_condition(", "_decide(", "validation.cancel()")


def text_of(node: cst.CSTNode) -> str:
    """Return the code of a node in one line of at most 60 characters."""
    lines = cst.Module([]).code_for_node(node).strip().splitlines()
    code = " ".join(line.strip() for line in lines if not line.strip().startswith("#"))
    return code if len(code) <= 60 else code[:59] + "…"


def _has_effect(statement: cst.CSTNode) -> bool:
    return m.matches(statement, m.SimpleStatementLine([m.Expr()])) and any(
        act in text_of_all(statement) for act in _EFFECTS
    )


def text_of_all(node: cst.CSTNode) -> str:
    """Return the code of a node."""
    return cst.Module([]).code_for_node(node)


def statements(node: cst.CSTNode) -> Iterator[Edit]:
    """Remove a statement, duplicate it, or swap it with the next one."""
    if not isinstance(node, cst.IndentedBlock):
        return
    body = list(node.body)
    for place, statement in enumerate(body):
        if not _has_effect(statement):
            continue
        without = body[:place] + body[place + 1 :] or [cst.parse_statement("pass")]
        yield f"leave out `{text_of(statement)}`", node, node.with_changes(body=without)
        if not any(act in text_of_all(statement) for act in _IDEMPOTENT):
            twice = [*body[: place + 1], statement.deep_clone(), *body[place + 1 :]]
            yield f"do twice `{text_of(statement)}`", node, node.with_changes(body=twice)
        if place + 1 < len(body) and isinstance(body[place + 1], cst.SimpleStatementLine):
            swapped = [*body[:place], body[place + 1], statement, *body[place + 2 :]]
            yield f"swap `{text_of(statement)}` and what follows", node, node.with_changes(body=swapped)


def durations(node: cst.CSTNode) -> Iterator[Edit]:
    """Lengthen a duration by one unit."""
    if m.matches(node, m.Call(func=m.Name("timedelta"), args=[m.Arg(keyword=m.Name())])):
        assert isinstance(node, cst.Call)
        (argument,) = node.args
        longer = cst.parse_expression(f"({text_of_all(argument.value)}) + 1")
        yield f"a unit longer: `{text_of(node)}`", node, node.with_changes(args=[argument.with_changes(value=longer)])


def policies(node: cst.CSTNode) -> Iterator[Edit]:
    """Change or remove retry policies and their fields."""
    if m.matches(node, m.Call(func=m.Name("RetryPolicy"))):
        assert isinstance(node, cst.Call)
        for place, argument in enumerate(node.args):
            rest = [*node.args[:place], *node.args[place + 1 :]]
            name = argument.keyword.value if argument.keyword else ""
            if name != "initial_interval":  # 1 s is also the server's default
                yield f"retry policy without {name}", node, node.with_changes(args=rest)
            if m.matches(argument.value, m.Integer()):
                more = argument.with_changes(value=cst.parse_expression(f"{text_of_all(argument.value)} + 1"))
                yield (
                    f"retry policy: one more of {name}",
                    node,
                    node.with_changes(args=[*node.args[:place], more, *node.args[place + 1 :]]),
                )
    if m.matches(node, m.Call(args=[m.ZeroOrMore(), m.Arg(keyword=m.Name("retry_policy")), m.ZeroOrMore()])):
        assert isinstance(node, cst.Call)
        rest = [each for each in node.args if not (each.keyword and each.keyword.value == "retry_policy")]
        yield f"no retry policy in `{text_of(node.func)}`", node, node.with_changes(args=rest)


def conditions(node: cst.CSTNode) -> Iterator[Edit]:
    """Negate a condition, or exchange `and` and `or`."""
    if isinstance(node, cst.If | cst.While) and not _can_be_negated(node.test):
        negated = cst.UnaryOperation(cst.Not(), node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()]))
        yield f"not: `{text_of(node.test)}`", node, node.with_changes(test=negated)
    if isinstance(node, cst.BooleanOperation):
        other = cst.Or() if isinstance(node.operator, cst.And) else cst.And()
        yield f"and/or: `{text_of(node)}`", node, node.with_changes(operator=other)
    if isinstance(node, cst.Comparison) and _can_be_negated(node):
        (target,) = node.comparisons
        if other_op := _NEGATED.get(type(target.operator)):
            turned_target = target.with_changes(operator=other_op)
            yield f"other way round: `{text_of(node)}`", node, node.with_changes(comparisons=[turned_target])


def _can_be_negated(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Comparison) and type(node.comparisons[0].operator) in _NEGATED


def results(node: cst.CSTNode) -> Iterator[Edit]:
    """Return another constant."""
    if m.matches(node, m.Return(value=m.Name("True") | m.Name("False"))):
        assert isinstance(node, cst.Return)
        other = "False" if m.matches(node, m.Return(value=m.Name("True"))) else "True"
        yield f"return {other}", node, node.with_changes(value=cst.Name(other))
    elif m.matches(node, m.Return(value=m.Comparison())):
        assert isinstance(node, cst.Return)
        yield f"return True for `{text_of(node)}`", node, node.with_changes(value=cst.Name("True"))


def statuses(node: cst.CSTNode) -> Iterator[Edit]:
    """Replace a status by another one."""
    if m.matches(node, m.Attribute(value=m.Name("Status") | m.Name("LineStatus"))):
        assert isinstance(node, cst.Attribute)
        assert isinstance(node.value, cst.Name)
        of_line = node.value.value == "LineStatus"
        if other := (_OTHER_LINE_STATUS if of_line else _OTHER_STATUS).get(node.attr.value):
            yield f"{text_of(node)} becomes {other}", node, node.with_changes(attr=cst.Name(other))


_START_CALL = m.Call(func=m.Attribute(m.Name("workflow"), m.Name("start_activity") | m.Name("start_child_workflow")))
_ASSIGNED_START_CALL = m.SimpleStatementLine(
    [m.Assign(targets=[m.AssignTarget(m.Name())], value=_START_CALL | m.Await(_START_CALL))]
)


def begun(node: cst.CSTNode) -> Iterator[Edit]:
    """Do not start an activity or child workflow whose handle is assigned, or start it twice."""
    if not isinstance(node, cst.IndentedBlock):
        return
    body = list(node.body)
    for place, statement in enumerate(body):
        if not m.matches(statement, _ASSIGNED_START_CALL):
            continue
        assert isinstance(statement, cst.SimpleStatementLine)
        (assigned,) = statement.body
        assert isinstance(assigned, cst.Assign)
        never = assigned.with_changes(value=cst.parse_expression("asyncio.get_running_loop().create_future()"))
        for about, others in (
            ("never begin", [statement.with_changes(body=[never])]),
            ("begin twice", [statement, statement.with_changes(body=[cst.Expr(assigned.value.deep_clone())])]),
        ):
            edited = node.with_changes(body=[*body[:place], *others, *body[place + 1 :]])
            yield f"{about} `{text_of(statement)}`", node, edited


def exceptions(node: cst.CSTNode) -> Iterator[Edit]:
    """Replace a `raise` by `pass`; catch BaseException, and thus cancellation."""
    # Without an await, the block can't raise another exception.
    if isinstance(node, cst.Try) and m.findall(node.body, m.Await()):
        for handler in node.handlers:
            if handler.type is not None and not m.matches(handler.type, m.Name("BaseException")):
                wide = handler.with_changes(type=cst.Name("BaseException"))
                yield f"catch everything for `{text_of(handler.type)}`", handler, wide
    if m.matches(node, m.SimpleStatementLine([m.Raise()])):
        assert isinstance(node, cst.SimpleStatementLine)
        yield f"swallow: `{text_of(node)}`", node, node.with_changes(body=[cst.Pass()])


def names(node: cst.CSTNode) -> Iterator[Edit]:
    """Rename workflows, activities, updates, signals, queries and ids."""
    if m.matches(node, m.Arg(keyword=m.Name("name"), value=m.SimpleString())):
        assert isinstance(node, cst.Arg)
        assert isinstance(node.value, cst.SimpleString)
        other = cst.SimpleString(node.value.value[:-1] + '2"')
        yield f"rename {node.value.value}", node, node.with_changes(value=other)
    if m.matches(node, m.Assign(targets=[m.AssignTarget(m.Name())], value=m.SimpleString())):
        assert isinstance(node, cst.Assign)
        assert isinstance(node.value, cst.SimpleString)
        # Not task queues, which no history depends on, nor texts for people.
        if node.value.value.strip('"').replace("_", "").isalpha():
            other = cst.SimpleString(node.value.value[:-1] + '2"')
            yield f"rename {node.value.value}", node, node.with_changes(value=other)
    if m.matches(node, m.FormattedStringText(value="-line-")):
        assert isinstance(node, cst.FormattedStringText)
        yield "other ids of children", node, node.with_changes(value="-item-")
    if m.matches(node, m.Call(func=m.Attribute(attr=m.Name("for_keyword")))):
        assert isinstance(node, cst.Call)
        (argument,) = node.args
        yield (
            "another search attribute",
            node,
            node.with_changes(args=[argument.with_changes(value=cst.SimpleString('"CustomKeywordField"'))]),
        )


@dataclass(frozen=True)
class Insertion:
    """Code to insert at the beginning of some functions."""

    about: str
    code: str
    into: tuple[str, ...]


INSERTIONS = (
    Insertion("a timer more", "await workflow.sleep(1)", ("_validate", "_await_decision", "_pay", "_pay_line", "run")),
    Insertion(
        "an activity more",
        "await workflow.execute_activity('payment_gateway', None, start_to_close_timeout=_VALIDATION_ATTEMPT)",
        ("_await_decision", "_pay"),
    ),
    Insertion(
        "a local activity more",
        "await workflow.execute_local_activity('payment_gateway', start_to_close_timeout=_VALIDATION_ATTEMPT)",
        ("_await_decision", "_pay"),
    ),
    Insertion(
        "a local activity more that nobody waits for",
        "workflow.start_local_activity('payment_gateway', start_to_close_timeout=_VALIDATION_ATTEMPT)",
        ("_await_decision", "_pay"),
    ),
    Insertion(
        "a child more",
        "await workflow.start_child_workflow('PayLineItem', id=workflow.info().workflow_id + '-more')",
        ("_await_decision",),
    ),
    Insertion(
        "a search attribute more", 'workflow.upsert_search_attributes([INVOICE_STATUS.value_set("")])', ("_pay",)
    ),
    Insertion("a memo more", 'workflow.upsert_memo({"more": True})', ("_await_decision",)),
    Insertion("a wait that never ends", "await workflow.wait_condition(lambda: False)", ("_pay_line", "_validate")),
    Insertion("sleep in the wrong way", "__import__('time').sleep(0.001)", ("_validate",)),
)


def insertions(node: cst.CSTNode) -> Iterator[Edit]:
    """Insert a command or a wait."""
    if not (isinstance(node, cst.FunctionDef) and node.asynchronous and isinstance(node.body, cst.IndentedBlock)):
        return
    for insertion in INSERTIONS:
        if node.name.value in insertion.into and not ("self._orders" in insertion.code and node.name.value == "run"):
            body = list(node.body.body)
            first = 1 if m.matches(body[0], m.SimpleStatementLine([m.Expr(m.SimpleString())])) else 0
            added = [*body[:first], cst.parse_statement(insertion.code), *body[first:]]
            yield insertion.about, node, node.with_changes(body=node.body.with_changes(body=added))


_TASKS = "[asyncio.create_task(self._pay_line(order)) for order in"
REPLACEMENTS: Mapping[str, tuple[tuple[str, str], ...]] = {
    # Nondeterminism.
    "workflow.now()": (
        ("the machine's time", '__import__("datetime").datetime.now(__import__("datetime").timezone.utc)'),
    ),
    "min(wait, _LONGEST_TIMER)": (
        ("a random timer", "min(wait, _LONGEST_TIMER) * (1 + __import__('random').random() / 100)"),
        ("a timer of another length", "wait / 2"),
    ),
    f"{_TASKS} self._orders]": (
        ("children as hashed", f"{_TASKS} sorted(self._orders, key=lambda order: hash(order.idempotency_key))]"),
        ("children in reverse", f"{_TASKS} reversed(self._orders)]"),
        ("only the first child", f"{_TASKS} self._orders[:1]]"),
        ("a child twice", f"{_TASKS} self._orders + self._orders[:1]]"),
    ),
    # Arguments.
    "self._policy.approval_timeout": (("another window", "timedelta(days=5)"),),
    "self.report()": (("no result", "None"),),
    "Decision(verdict=verdict, by=by, comment=comment, at=workflow.now())": (
        ("a decision by nobody", 'Decision(verdict=verdict, by="", comment=comment, at=workflow.now())'),
    ),
    "outcome.model_dump()": (("an outcome without its payment", "{**outcome.model_dump(), 'payment_id': None}"),),
    "receipt.payment_id": (("another payment id", "receipt.payment_id.lower()"),),
    "self._decision is None": (("the last decision counts", "True"),),
    "validation.done() or self._is_rejected()": (("a rejection waits for the ERP", "validation.done()"),),
}  # fmt: skip


def replacements(node: cst.CSTNode) -> Iterator[Edit]:
    """Something else in the place of an expression."""
    if not isinstance(node, cst.BaseExpression):
        return
    code = text_of_all(node)
    for about, other in REPLACEMENTS.get(code, ()):
        yield f"{about} for `{text_of(node)}`", node, cst.parse_expression(f"({other})")
    if isinstance(node, cst.Call):
        name = text_of_all(node.func)
        if name in {"workflow.start_activity", "workflow.start_child_workflow"}:
            given = node.args[1]
            yield (
                f"another argument of {name}",
                node,
                node.with_changes(
                    args=[node.args[0], given.with_changes(value=_without_customer(given.value)), *node.args[2:]]
                ),
            )


def _without_customer(value: cst.BaseExpression) -> cst.BaseExpression:
    return cst.parse_expression(f'{text_of_all(value)}.model_copy(update={{"customer": "Nobody"}})')


OPERATORS = {
    "statement": statements,
    "duration": durations,
    "policy": policies,
    "condition": conditions,
    "result": results,
    "status": statuses,
    "begun": begun,
    "exception": exceptions,
    "name": names,
    "insertion": insertions,
    "replacement": replacements,
}
