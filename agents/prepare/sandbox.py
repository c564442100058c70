"""The part of Jinja2 that prompts are written in: nothing in it runs long, grows large or reaches out. Pure.

What a template may hold is checked when it is read; what depends on values (rounds of loops, lengths) when it is
rendered. Macros, includes and calls are left out: they can recur, read files and reach into objects.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, Undefined, UndefinedError, meta, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MOST_ROUNDS = 1_000
"""Rounds of all loops of one message together."""
MOST_CHARACTERS = 32_000
"""Of one message, and of each text that a template makes on the way to it."""
MOST_NUMBER = 10**15
MOST_DECIMALS = 10

ROUNDS = "rounds left"
"""The variable that counts rounds: a name that no template can write."""

_COUNTED, _JOINED = "(counted)", "(joined)"
_STATEMENTS = (nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign, nodes.Template)
_VALUES = (nodes.Name, nodes.Const, nodes.List, nodes.Tuple, nodes.CondExpr, nodes.Getattr, nodes.Getitem, nodes.Slice)
_WORK = (nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat)
_SUMS = (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos)
_TAKEN = (*_STATEMENTS, *_VALUES, *_WORK, *_SUMS, nodes.Keyword, nodes.Call)
_CALLED = {nodes.Pow: "**", nodes.FilterBlock: "a filter block", nodes.AssignBlock: "a set block", nodes.Dict: "{…}"}
# fmt: off
_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "first", "int", "join", "last", "length", "list", "lower", "max",
    "min", "reverse", "sort", "string", "sum", "title", "tojson", "trim", "truncate", "unique", "upper", "wordcount",
)
# fmt: on


class CannotRender(ValueError):
    """Why a template gave no prompt; names the variable that is missing. `kind` is that of the dead letter."""

    def __init__(self, message: str, kind: str = "template") -> None:
        super().__init__(message)
        self.kind = kind


def compiled(body: str) -> tuple[Template, frozenset[str]]:
    """A template made ready, and the variables that it uses. Raises TemplateSyntaxError with the line."""
    try:
        tree = _ENVIRONMENT.parse(body)
        for node in tree.find_all(nodes.Node):
            _check(node)
        names = frozenset(meta.find_undeclared_variables(tree))
        return _ENVIRONMENT.from_string(_Bounding().visit(tree)), names
    except (RecursionError, MemoryError, SyntaxError):
        raise TemplateSyntaxError("it is nested too deep", 1) from None
    except ValueError as error:
        raise TemplateSyntaxError(str(error)[:200], 1) from None


def rendered(template: Template, variables: Mapping[str, Any], where: str) -> str:
    """The text of one message. Raises CannotRender; `where` begins what it says."""
    pieces, length = [], 0
    try:
        for piece in template.generate({**variables, ROUNDS: iter(range(MOST_ROUNDS))}):
            length += len(piece)
            if length > MOST_CHARACTERS:
                raise CannotRender(f"{where}: longer than {MOST_CHARACTERS:,} characters", "prompt-too-long")
            pieces.append(piece)
    except UndefinedError as error:
        raise CannotRender(f"{where}: {error.message}", "missing-variable") from None
    except CannotRender as error:
        raise error if length > MOST_CHARACTERS else CannotRender(f"{where}: {error}", error.kind) from None
    except (SecurityError, ArithmeticError, TypeError, ValueError, LookupError, RecursionError, MemoryError) as error:
        raise CannotRender(f"{where}: {str(error)[:200] or type(error).__name__}") from None
    return "".join(pieces).strip()


def _check(node: nodes.Node) -> None:
    wrong = ""
    if not isinstance(node, _TAKEN):
        wrong = f"{_CALLED.get(type(node), type(node).__name__.lower())} is not taken in a prompt"
    elif isinstance(node, nodes.Call) and not (isinstance(node.node, nodes.Name) and node.node.name == "range"):
        wrong = "nothing but range(…) can be called; filters change texts: | upper"
    elif isinstance(node, nodes.For) and node.recursive:
        wrong = "a recursive loop is not taken in a prompt"
    elif isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        wrong = f"{node.attr!r} cannot be looked at"
    elif isinstance(node, nodes.List | nodes.Tuple) and not _is_plain(node):
        wrong = "a list holds texts and numbers alone"
    if wrong:
        raise TemplateSyntaxError(wrong, node.lineno)


def _is_plain(node: nodes.List | nodes.Tuple) -> bool:
    targets = isinstance(node, nodes.Tuple) and node.ctx == "store"
    return targets or all(isinstance(item, nodes.Const) for item in node.items)


class _Bounding(NodeTransformer):
    """Counts the rounds of loops, and joins texts within bounds."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filtered(node.iter, _COUNTED)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno, environment=node.environment), _JOINED)


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=node.environment)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if not isinstance(left, int | float | Undefined) or not isinstance(right, int | float | Undefined):
            raise SecurityError(f"{operator} is for numbers; texts are joined with ~")
        value = super().call_binop(context, operator, left, right)
        if abs(value) > MOST_NUMBER:
            raise SecurityError(f"a number is larger than {MOST_NUMBER:,}")
        return value

    def is_safe_callable(self, obj: Any) -> bool:
        return obj is _range


@pass_context
def _counted(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    left = context[ROUNDS]
    for value in values:
        if next(left, None) is None:
            raise CannotRender(f"more than {MOST_ROUNDS:,} rounds of loops")
        yield value


def _joined(parts: list[Any]) -> str:
    if undefined := next((part for part in parts if isinstance(part, Undefined)), None):
        str(undefined)
    texts = [str(part) for part in parts]
    if sum(map(len, texts)) > MOST_CHARACTERS:
        raise CannotRender(f"longer than {MOST_CHARACTERS:,} characters", "prompt-too-long")
    return "".join(texts)


def _round(value: float, decimals: int = 0) -> float:
    return round(float(value), max(0, min(decimals, MOST_DECIMALS)))


def _range(*bounds: int) -> range:
    found = range(*bounds)
    if len(found) > MOST_ROUNDS:
        raise CannotRender(f"a range of more than {MOST_ROUNDS:,}")
    return found


def _short(change: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja2 whose text stays within bounds."""

    @functools.wraps(change)
    def checked(*args: Any, **kwargs: Any) -> Any:
        value = change(*args, **kwargs)
        if isinstance(value, str) and len(value) > MOST_CHARACTERS:
            raise CannotRender(f"longer than {MOST_CHARACTERS:,} characters", "prompt-too-long")
        return value

    return checked


def _environment() -> _Environment:
    found = _Environment(undefined=StrictUndefined, autoescape=False)
    found.filters = {name: _short(FILTERS[name]) for name in _FILTERS}
    found.filters |= {_COUNTED: _counted, _JOINED: _joined, "round": _round}
    found.globals = {"range": _range}
    return found


_ENVIRONMENT = _environment()
