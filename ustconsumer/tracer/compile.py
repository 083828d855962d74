# SPDX-License-Identifier: MIT
"""Bytecode to a Python function, once per tracepoint.

The steps are gone through twice at a time: as the tracer's validator sees them, whose types
decide what is refused, and as what their values will be, which decides the code. That is
made of names and numbers of our own only; literals, contexts and field names are constants
that it refers to. ``a && b`` becomes ``t = a; if t: t = b``: nothing nests that was not
nested by parentheses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ustconsumer.abi.bytecode import MAX_DEPTH
from ustconsumer.tracer import operations
from ustconsumer.tracer.bytecode import Bytecode, Step
from ustconsumer.tracer.operations import Glob, Literal
from ustconsumer.tracer.types import Enumeration, FieldType, Integer, Real, Text
from ustconsumer.tracer.types import Sequence as SequenceType

if TYPE_CHECKING:
    from typing import TypeAlias

    Fields: TypeAlias = Sequence[tuple[str, FieldType]]
    Function: TypeAlias = Callable[[tuple[object, ...]], object]

__all__ = ["Enumerated", "LinkError", "capture_of", "filter_of"]


class LinkError(Exception):
    """Bytecode that means nothing for a tracepoint: no such field, or types that do not fit."""


class Enumerated(NamedTuple):
    """A captured value of an enumeration."""

    value: int


class Contexts(Protocol):
    """Where contexts come from: `ustconsumer.tracer.contexts`."""

    def getter(self, name: str) -> Callable[[], object] | None:
        """Return what gets a context's value, None for no such one."""


# Types: of registers as liblttng-ust has them. An unknown one is known only at run time.
_S64, _U64, _DOUBLE, _STRING, _GLOB, _PTR, _UNKNOWN = (
    *("s64", "u64", "double", "string", "glob", "ptr", "unknown"),
)
_INTEGERS = (_S64, _U64)
_NUMBERS = (_S64, _U64, _DOUBLE)


class Place(NamedTuple):
    """Where a reference points: ``what`` is "payload", "context", "app" for a root, "value"
    for something that can be loaded, "sequence" for what can be indexed."""

    what: str
    kind: FieldType | None = None


class Value(NamedTuple):
    """A value on the stack.

    Attributes
    ----------
    checked : str
        Its type to the validator.
    actual : str
        What it will be. Integers of both kinds are signed numbers in Python.
    code : str
        An expression.
    literal : Literal or None
        The constant it is.
    """

    checked: str
    actual: str
    code: str
    literal: Literal | None = None
    place: Place | None = None


def filter_of(bytecode: Bytecode, fields: Fields, contexts: Contexts) -> Function:
    """Return what tells whether an event passes; an exception is a no.

    Parameters
    ----------
    fields : sequence of (name, type)
        Of the tracepoint, in the order of its values.

    Raises
    ------
    LinkError
        It cannot be said of this tracepoint's events.
    """
    compiler = _Compiler(bytecode, fields, contexts)
    result = compiler.run()
    if result.actual in _INTEGERS:
        return compiler.function(result.code)
    if result.actual == _UNKNOWN and result.place is None:
        return compiler.function(f"integer({result.code})")
    raise LinkError(f"a filter that results in a {result.actual}")


def capture_of(bytecode: Bytecode, fields: Fields, contexts: Contexts) -> Function:
    """Return what captures a value: int, float, bytes, list, `Enumerated` or None.

    Raises
    ------
    LinkError
        There is no such value.
    """
    compiler = _Compiler(bytecode, fields, contexts)
    result = compiler.run()
    if result.place is not None:
        return compiler.function(compiler.whole(result))
    if result.actual == _GLOB:
        raise LinkError("a pattern is no value")
    if result.literal is not None:
        return compiler.function(f"bytes({result.code}.tokens)")
    if result.actual == _U64:
        return compiler.function(f"({result.code}) & {(1 << 64) - 1}")
    return compiler.function(result.code)


class _Compiler:
    """The steps of one program, on their way to a function."""

    def __init__(self, bytecode: Bytecode, fields: Fields, contexts: Contexts):
        self._bytecode = bytecode
        self._fields = fields
        self._contexts = contexts
        self._stack: list[Value] = []
        self._lines: list[str] = []
        self._indent = 1
        self._temporaries = 0
        self._constants: dict[str, object] = {
            name: getattr(operations, name)
            for name in ("bits", "dynamic", "integer", "order", "signed", "to_s64")
        }
        self._next = 0
        self._result: Value | None = None

    # -- the whole -----------------------------------------------------------------------

    def run(self) -> Value:
        """Go through all steps; return what the program returns."""
        self._range(self._bytecode.end, nested=False)
        if self._result is None:
            raise LinkError("nothing is returned")
        return self._result

    def function(self, expression: str) -> Function:
        """Return the function that what was gone through makes, with this result."""
        source = "\n".join(["def evaluate(v):", *self._lines, f" return {expression}", ""])
        scope = dict(self._constants)
        try:
            exec(compile(source, "<filter>", "exec"), scope)  # noqa: S102 - of our own words only
        except (SyntaxError, RecursionError, MemoryError) as error:
            # Parentheses nested beyond what Python takes.
            raise LinkError(f"too complex: {error}") from None
        function: Function = scope["evaluate"]  # type: ignore[assignment]
        return function

    def _range(self, end: int, nested: bool) -> None:
        """Go through the steps up to an offset."""
        steps = self._bytecode.steps
        while self._next < len(steps) and steps[self._next].at < end:
            step = steps[self._next]
            self._next += 1
            if step.name in ("RETURN", "RETURN_S64"):
                if nested:
                    raise LinkError("a result in the middle of an operand")
                self._return(step)
                return
            if step.name in ("AND", "OR"):
                self._logical(step, end)
            else:
                getattr(self, f"_{step.name.lower()}")(step)
        if self._next < len(steps) and steps[self._next].at != end:
            raise LinkError(f"a jump to byte {end}, into an instruction")

    def _return(self, step: Step) -> None:
        result = self._pop()
        if result.checked == _GLOB or (
            step.name == "RETURN_S64" and result.checked not in _INTEGERS
        ):
            raise LinkError(f"a {result.checked} cannot be returned")
        self._result = result

    # -- the stack -----------------------------------------------------------------------

    def _push(self, value: Value) -> None:
        if len(self._stack) == MAX_DEPTH:
            raise LinkError("the stack is full")
        self._stack.append(value)

    def _pop(self) -> Value:
        if not self._stack:
            raise LinkError("the stack is empty")
        return self._stack.pop()

    def _constant(self, value: object) -> str:
        name = f"k{len(self._constants)}"
        self._constants[name] = value
        return name

    # -- loading -------------------------------------------------------------------------

    def _load_s64(self, step: Step) -> None:
        self._push(Value(_S64, _S64, f"({step.operand!r})"))

    def _load_double(self, step: Step) -> None:
        self._push(Value(_DOUBLE, _DOUBLE, self._constant(step.operand)))

    def _load_string(self, step: Step) -> None:
        assert isinstance(step.operand, bytes)
        literal = Literal(step.operand)
        self._push(Value(_STRING, _STRING, self._constant(literal), literal))

    def _load_star_glob_string(self, step: Step) -> None:
        assert isinstance(step.operand, bytes)
        self._push(Value(_GLOB, _GLOB, self._constant(Glob(step.operand))))

    def _load_field_ref(self, step: Step) -> None:
        number, kind = self._field(step.operand)
        if isinstance(kind, SequenceType):
            raise LinkError(f"{step.operand!r} is a sequence")
        value = self._loaded(f"v[{number}]", kind)
        # By this way all integers are signed.
        actual = _S64 if value.actual == _U64 else value.actual
        self._push(value._replace(checked=actual, actual=actual))

    def _field(self, name: object) -> tuple[int, FieldType]:
        for number, (own, kind) in enumerate(self._fields):
            if own == name:
                return number, kind
        raise LinkError(f"no field {name!r}")

    def _loaded(self, code: str, kind: FieldType | None) -> Value:
        """Return a field's value; the validator does not know its type."""
        if isinstance(kind, Enumeration):
            kind = kind.container
        if isinstance(kind, Integer):
            if kind.signed:
                return Value(_UNKNOWN, _S64, code)
            return Value(_UNKNOWN, _U64, f"signed({code})" if kind.size == 64 else code)
        if isinstance(kind, Real):
            return Value(_UNKNOWN, _DOUBLE, code)
        if isinstance(kind, Text):
            return Value(_UNKNOWN, _STRING, code)
        raise LinkError("a sequence cannot be loaded")

    def _get_context_ref(self, step: Step) -> None:
        value = self._context(str(step.operand))
        # By this way all integers are signed, and only those of applications unknown.
        actual = _S64 if value.actual == _U64 else value.actual
        self._push(value._replace(checked=actual, actual=actual))

    def _context(self, name: str) -> Value:
        getter = self._contexts.getter(name)
        if getter is None:
            raise LinkError(f"no context {name!r}")
        code = f"{self._constant(getter)}()"
        bare = name.removeprefix("$ctx.")
        if bare == "procname":
            return Value(_UNKNOWN, _STRING, code)
        if name.startswith("$app."):
            return Value(_UNKNOWN, _UNKNOWN, code)
        if bare in ("vtid", "vpid", "cpu_id"):
            return Value(_UNKNOWN, _S64, code)
        return Value(_UNKNOWN, _U64, f"signed({code})")

    # -- references ----------------------------------------------------------------------

    def _get_payload_root(self, step: Step) -> None:
        self._push(Value(_PTR, _PTR, "", place=Place("payload")))

    def _get_context_root(self, step: Step) -> None:
        self._push(Value(_PTR, _PTR, "", place=Place("context")))

    def _get_app_context_root(self, step: Step) -> None:
        self._push(Value(_PTR, _PTR, "", place=Place("app")))

    def _get_symbol(self, step: Step) -> None:
        place = self._reference()
        if place.what == "payload":
            number, kind = self._field(step.operand)
            what = "sequence" if isinstance(kind, SequenceType) else "value"
            self._push(Value(_PTR, _PTR, f"v[{number}]", place=Place(what, kind)))
        elif place.what in ("context", "app"):
            root = "$ctx." if place.what == "context" else "$app."
            value = self._context(root + str(step.operand))
            self._push(value._replace(checked=_PTR, place=Place("loaded")))
        else:
            raise LinkError("a field has no members")

    def _get_index(self, step: Step) -> None:
        value = self._pop()
        if value.place is None or value.place.what != "sequence":
            raise LinkError("only a sequence has elements")
        assert isinstance(value.place.kind, SequenceType)
        # Behind the end there is nothing: an exception, so the answer is no.
        code = f"{value.code}[{step.operand!r}]"
        element = value.place.kind.element
        if element.signed and element.size == 8:
            # Sequences of bytes come as bytes.
            code = f"(({code} ^ 128) - 128)"
        self._push(Value(_PTR, _PTR, code, place=Place("value", element)))

    def _load_field(self, step: Step) -> None:
        value = self._pop()
        if value.place is None:
            raise LinkError("nothing to load")
        if value.place.what == "loaded":
            self._push(value._replace(checked=_UNKNOWN, place=None))
        elif value.place.what == "value":
            self._push(self._loaded(value.code, value.place.kind))
        else:
            raise LinkError(f"a {value.place.what} cannot be loaded")

    def _reference(self) -> Place:
        value = self._pop()
        if value.place is None:
            raise LinkError("no reference")
        return value.place

    def whole(self, value: Value) -> str:
        """Return the code of what a reference points to, for a capture."""
        place = value.place
        assert place is not None
        if place.what == "sequence":
            assert isinstance(place.kind, SequenceType)
            if place.kind.element.signed and place.kind.element.size == 8:
                return f"[(e ^ 128) - 128 for e in {value.code}]"
            return f"list({value.code})"
        if place.what == "value":
            if isinstance(place.kind, Enumeration):
                return f"{self._constant(Enumerated)}({value.code})"
            return value.code
        if place.what == "loaded":
            if value.actual == _U64:
                return f"({value.code}) & {(1 << 64) - 1}"
            return value.code
        raise LinkError("a name is missing")

    # -- operations ----------------------------------------------------------------------

    def _eq(self, step: Step) -> None:
        self._compare(step)

    _ne = _gt = _lt = _ge = _le = _eq

    def _compare(self, step: Step) -> None:
        right, left = self._pop(), self._pop()
        self._check_comparison(step, left, right)
        self._push(Value(_S64, _S64, self._comparison(step.name, left, right)))

    def _check_comparison(self, step: Step, left: Value, right: Value) -> None:
        checked = {left.checked, right.checked}
        if _PTR in checked:
            raise LinkError("a reference is compared")
        wanted: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
            "STRING": ((_STRING,), (_STRING,)),
            "S64": (_INTEGERS, _INTEGERS),
            "DOUBLE": ((_DOUBLE,), (_DOUBLE,)),
            "DOUBLE_S64": ((_DOUBLE,), _INTEGERS),
            "S64_DOUBLE": (_INTEGERS, (_DOUBLE,)),
            "GLOB": ((_STRING, _GLOB), (_STRING, _GLOB)),
        }
        if step.typed:
            lefts, rights = wanted[step.typed]
            if left.checked not in lefts or right.checked not in rights:
                raise LinkError(f"{step.name} for {step.typed} of {left.checked}, {right.checked}")
        if _UNKNOWN in checked:
            return
        texts = checked & {_STRING, _GLOB}
        if texts and checked - texts:
            raise LinkError("text is compared with a number")
        if _GLOB in checked and (checked == {_GLOB} or step.name not in ("EQ", "NE")):
            raise LinkError("a pattern is compared with something else than text, or ordered")

    def _comparison(self, name: str, left: Value, right: Value) -> str:
        sign = {"EQ": "==", "NE": "!=", "GT": ">", "LT": "<", "GE": ">=", "LE": "<="}[name]
        actual = {left.actual, right.actual}
        if actual <= set(_INTEGERS) or actual == {_DOUBLE}:
            return f"({left.code} {sign} {right.code})"
        if actual <= set(_NUMBERS):
            # As C compares them: Python would not round.
            codes = [
                value.code if value.actual == _DOUBLE else f"float({value.code})"
                for value in (left, right)
            ]
            self._constants["float"] = float
            return f"({codes[0]} {sign} {codes[1]})"
        if actual == {_STRING, _GLOB}:
            pattern, text = (left, right) if left.actual == _GLOB else (right, left)
            if text.literal is None:
                match = f"{pattern.code}.matches({text.code})"
                return match if name == "EQ" else f"(not {match})"
        if actual == {_STRING}:
            simple = self._simple(name, left, right)
            return simple or f"(order({left.code}, {right.code}) {sign} 0)"
        return f"dynamic({name!r}, {left.code}, {right.code})"

    def _simple(self, name: str, left: Value, right: Value) -> str | None:
        """Return a comparison of a field with a literal as Python has it, if it has."""
        field, text = (left, right) if left.literal is None else (right, left)
        if field.literal is not None or text.literal is None or text.literal.plain is None:
            return None
        if name not in ("EQ", "NE"):
            return None
        plain = self._constant(text.literal.plain)
        if text.literal.prefix:
            match = f"{field.code}.startswith({plain})"
            return match if name == "EQ" else f"(not {match})"
        return f"({field.code} {'==' if name == 'EQ' else '!='} {plain})"

    def _rshift(self, step: Step) -> None:
        right, left = self._pop(), self._pop()
        for value in (left, right):
            if value.checked not in (*_INTEGERS, _UNKNOWN):
                raise LinkError(f"{step.name} of a {value.checked}")
        known = left.actual in _INTEGERS and right.actual in _INTEGERS
        function = "bits" if known else "dynamic"
        self._push(Value(_U64, _U64, f"{function}({step.name!r}, {left.code}, {right.code})"))

    _lshift = _bit_and = _bit_or = _bit_xor = _rshift

    def _unary(self, step: Step) -> Value:
        value = self._pop()
        wanted = {"S64": _INTEGERS, "DOUBLE": (_DOUBLE,)}.get(step.typed, (*_NUMBERS, _UNKNOWN))
        if value.checked not in wanted:
            raise LinkError(f"{step.name} of a {value.checked}")
        if value.actual == _STRING:
            raise LinkError(f"{step.name} of text")
        return value

    def _unary_plus(self, step: Step) -> None:
        value = self._unary(step)
        self._push(value._replace(checked=value.checked if step.typed else _UNKNOWN))

    def _unary_minus(self, step: Step) -> None:
        value = self._unary(step)
        checked = value.checked if step.typed else _UNKNOWN
        if value.actual == _DOUBLE:
            self._push(Value(checked, _DOUBLE, f"(-{value.code})"))
        elif value.actual in _INTEGERS:
            self._push(Value(checked, value.actual, f"signed(-{value.code})"))
        else:
            self._push(Value(checked, _UNKNOWN, f"{self._constant(_negated)}({value.code})"))

    def _unary_not(self, step: Step) -> None:
        value = self._unary(step)
        # The validator leaves the type as it is; the value is an integer.
        checked = _S64 if step.typed == "DOUBLE" else value.checked
        if value.actual == _UNKNOWN:
            self._push(Value(checked, _S64, f"{self._constant(_inverted)}({value.code})"))
        else:
            self._push(Value(checked, _S64, f"(not {value.code})"))

    def _unary_bit_not(self, step: Step) -> None:
        value = self._pop()
        if value.checked not in (*_INTEGERS, _UNKNOWN) or value.actual in (_STRING, _DOUBLE):
            raise LinkError(f"{step.name} of a {value.actual}")
        code = value.code if value.actual in _INTEGERS else f"integer({value.code})"
        self._push(Value(_U64, _U64, f"(~{code})"))

    def _cast_to_s64(self, step: Step) -> None:
        value = self._pop()
        if value.checked not in ((_DOUBLE,) if step.typed else (*_NUMBERS, _UNKNOWN)):
            raise LinkError(f"a cast of a {value.checked}")
        if value.actual in _INTEGERS:
            self._push(Value(_S64, _S64, value.code))
        elif value.actual == _DOUBLE:
            self._push(Value(_S64, _S64, f"to_s64({value.code})"))
        elif value.actual == _UNKNOWN:
            self._push(Value(_S64, _S64, f"{self._constant(_cast)}({value.code})"))
        else:
            raise LinkError(f"a cast of a {value.actual}")

    def _cast_nop(self, step: Step) -> None:
        return

    def _logical(self, step: Step, end: int) -> None:
        """``a && b``, ``a || b``: ``b`` are the steps up to the target of the jump."""
        target = step.operand
        assert isinstance(target, int)
        left = self._pop()
        if left.checked not in _INTEGERS:
            raise LinkError(f"{step.name} of a {left.checked}")
        if not step.at < target <= end:
            raise LinkError(f"a jump from byte {step.at} to {target}")
        name = f"t{self._temporaries}"
        self._temporaries += 1
        self._line(f"{name} = {left.code}")
        self._line(f"if {name}:" if step.name == "AND" else f"if not {name}:")
        depth = len(self._stack)
        self._indent += 1
        self._range(target, nested=True)
        if len(self._stack) != depth + 1:
            raise LinkError(f"{len(self._stack) - depth} operands instead of one")
        right = self._pop()
        if right.checked != _UNKNOWN and right.checked != left.checked:
            raise LinkError(f"{step.name} of a {left.checked} and a {right.checked}")
        self._line(f"{name} = {right.code}")
        self._indent -= 1
        if step.name == "OR":
            self._line(f"else: {name} = 1")
        actual = _S64 if right.actual in _INTEGERS else _UNKNOWN
        self._push(Value(right.checked, actual, name))

    def _line(self, text: str) -> None:
        self._lines.append(" " * self._indent + text)


def _negated(value: object) -> int | float:
    if isinstance(value, float):
        return -value
    return operations.signed(-operations.integer(value))


def _inverted(value: object) -> bool:
    return not (value if isinstance(value, float) else operations.integer(value))


def _cast(value: object) -> int:
    if isinstance(value, float):
        return operations.to_s64(value)
    return operations.integer(value)
