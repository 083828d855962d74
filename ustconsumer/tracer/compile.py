# SPDX-License-Identifier: MIT
"""Bytecode to a Python function, once per tracepoint.

The steps are gone through twice at a time: as the tracer's validator sees them, whose types
decide what is refused, and as what their values will be, which decides the code. That is
made of names and numbers of our own only; literals, contexts and field names are constants
that it refers to. ``a && b`` becomes ``t = a; if t: t = b``: nothing nests that was not
nested by parentheses.

Notes
-----
A program of liblttng-ust 2.13 in the same session must let the same events pass, so what it
does by mistake is done here too, where it always does the same: its specialiser takes no
operand away after ``<=``; ``!`` of a real number leaves the number where typed operations
find it; a cast of an unsigned integer is an error. Where it would read what nobody wrote,
the program is refused.
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

_SIGNS = {"EQ": "==", "NE": "!=", "GT": ">", "LT": "<", "GE": ">=", "LE": "<="}

#: Entries of the specialiser's stack, which ``<=`` fills.
_MAX_SPECIAL = 10
#: Levels of ``&&`` and ``||`` within one another; Python takes 100 of blocks.
_MAX_NESTING = 64
#: Characters of an expression, before it gets a name: parentheses nest to 200.
_MAX_EXPRESSION = 300


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
    special : str
        Its type to the specialiser, which chooses operations by it; none: ``actual``.
    real : str
        An expression for the real number that is still in memory, of an integer.
    """

    checked: str
    actual: str
    code: str
    literal: Literal | None = None
    place: Place | None = None
    special: str = ""
    real: str = ""


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
        # What the specialiser takes for the types of the same values, and more of them.
        self._special: list[str] = []
        # Values that belong to somebody else: operands of what a jump is in the middle of.
        self._base = 0
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
        try:
            self._range(self._bytecode.end, nested=False)
        except RecursionError as error:
            # The program's own stack was nearly full already.
            raise LinkError(f"too complex: {error}") from None
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
        if result.special in _INTEGERS:
            self._whole_number(result)
        self._result = result

    # -- the stack -----------------------------------------------------------------------

    def _push(self, value: Value) -> None:
        if len(self._stack) == MAX_DEPTH or len(self._special) == _MAX_SPECIAL:
            raise LinkError("the stack is full")
        self._special.append(value.special or value.actual)
        self._stack.append(
            value._replace(code=self._short(value.code), real=self._short(value.real))
        )

    def _pop(self) -> Value:
        if len(self._stack) == self._base:
            raise LinkError("the stack is empty")
        return self._stack.pop()._replace(special=self._special.pop())

    def _short(self, code: str) -> str:
        """Return an expression, or the name it was given because it is long."""
        if len(code) <= _MAX_EXPRESSION:
            return code
        return self._named(code)

    def _named(self, code: str) -> str:
        """Return the name of a new variable that has an expression's value."""
        self._temporaries += 1
        name = f"t{self._temporaries}"
        self._line(f"{name} = {code}")
        return name

    def _whole_number(self, value: Value) -> str:
        """Return the code of an operand that is used as an integer."""
        if value.actual not in _INTEGERS:
            raise LinkError(f"a {value.actual} is used as an integer")
        return value.code

    def _real_number(self, value: Value) -> str:
        """Return the code of an operand that is used as a real number."""
        if value.actual == _DOUBLE:
            return value.code
        if not value.real:
            raise LinkError(f"a {value.actual} is used as a real number")
        return value.real

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
            self._push(value._replace(checked=_PTR, place=Place("loaded"), special=_PTR))
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
            self._push(value._replace(checked=_UNKNOWN, place=None, special=""))
        elif value.place.what == "value":
            loaded = self._loaded(value.code, value.place.kind)
            # Of enumerations the specialiser keeps the reference.
            special = _PTR if isinstance(value.place.kind, Enumeration) else ""
            self._push(loaded._replace(special=special))
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
        code = self._comparison(step, left, right)
        special = _S64
        if not step.typed and step.name == "GE":
            special = _U64
        elif not step.typed and step.name == "LE":
            self._special.append(left.special)
        self._push(Value(_S64, _S64, code, special=special))

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

    def _comparison(self, step: Step, left: Value, right: Value) -> str:
        sign = _SIGNS[step.name]
        form = step.typed or self._form(step.name, left.special, right.special)
        if form == "S64":
            return f"({self._whole_number(left)} {sign} {self._whole_number(right)})"
        if form in ("DOUBLE", "DOUBLE_S64", "S64_DOUBLE"):
            # As C compares a real number with an integer: Python would not round.
            self._constants["float"] = float
            first = (
                f"float({self._whole_number(left)})"
                if form == "S64_DOUBLE"
                else self._real_number(left)
            )
            second = (
                f"float({self._whole_number(right)})"
                if form == "DOUBLE_S64"
                else self._real_number(right)
            )
            return f"({first} {sign} {second})"
        actual = {left.actual, right.actual}
        if form == "TEXT" and not actual <= {_STRING, _GLOB}:
            raise LinkError(f"{step.name} of a {left.actual} and a {right.actual}")
        if actual == {_STRING, _GLOB}:
            pattern, text = (left, right) if left.actual == _GLOB else (right, left)
            if text.literal is None and step.name in ("EQ", "NE"):
                match = f"{pattern.code}.matches({text.code})"
                return match if step.name == "EQ" else f"(not {match})"
        if actual == {_STRING}:
            simple = self._simple(step.name, left, right)
            return simple or f"(order({left.code}, {right.code}) {sign} 0)"
        return f"dynamic({step.name!r}, {left.code}, {right.code})"

    def _form(self, name: str, left: str, right: str) -> str:
        """Return which comparison the specialiser chooses by its types."""
        if right == _PTR or (right == _GLOB and name not in ("EQ", "NE")):
            raise LinkError(f"{name} of a {right}")
        if _UNKNOWN in (left, right):
            return "DYNAMIC"
        if right in (_STRING, _GLOB):
            return "TEXT"
        if left in _INTEGERS:
            return "S64" if right in _INTEGERS else "S64_DOUBLE"
        return "DOUBLE_S64" if right in _INTEGERS else "DOUBLE"

    def _simple(self, name: str, left: Value, right: Value) -> str | None:
        """Return a comparison of a field with a literal as Python has it, if it has."""
        field, text = (left, right) if left.literal is None else (right, left)
        if field.literal is not None or text.literal is None or text.literal.plain is None:
            return None
        plain, code = text.literal.plain, field.code
        if name in ("EQ", "NE"):
            if text.literal.prefix:
                match = f"{code}.startswith({self._constant(plain)})"
                return match if name == "EQ" else f"(not {match})"
            return f"({code} {_SIGNS[name]} {self._constant(plain)})"
        # No more of the field than decides. A star is equal to any rest.
        length = len(plain) + (not text.literal.prefix)
        order = self._constant(operations.SIGNED_BYTES)
        codes = [
            f"{code}[:{length}].translate({order})",
            self._constant(plain.translate(operations.SIGNED_BYTES)),
        ]
        if field is right:
            codes.reverse()
        return f"({codes[0]} {_SIGNS[name]} {codes[1]})"

    def _rshift(self, step: Step) -> None:
        right, left = self._pop(), self._pop()
        for value in (left, right):
            if value.checked not in (*_INTEGERS, _UNKNOWN):
                raise LinkError(f"{step.name} of a {value.checked}")
        known = left.actual in _INTEGERS and right.actual in _INTEGERS
        function = "bits" if known else "dynamic"
        code = f"{function}({step.name!r}, {left.code}, {right.code})"
        self._push(Value(_U64, _U64, code, special=_S64))

    _lshift = _bit_and = _bit_or = _bit_xor = _rshift

    def _unary(self, step: Step) -> Value:
        value = self._pop()
        wanted = {"S64": _INTEGERS, "DOUBLE": (_DOUBLE,)}.get(step.typed, (*_NUMBERS, _UNKNOWN))
        if value.checked not in wanted:
            raise LinkError(f"{step.name} of a {value.checked}")
        if value.actual == _STRING or value.special not in (*_NUMBERS, _UNKNOWN):
            raise LinkError(f"{step.name} of a {value.special}")
        if step.typed:
            return value._replace(special=step.typed.lower())
        return value

    def _unary_plus(self, step: Step) -> None:
        value = self._unary(step)
        self._push(value._replace(checked=value.checked if step.typed else _UNKNOWN))

    def _unary_minus(self, step: Step) -> None:
        value = self._unary(step)
        checked = value.checked if step.typed else _UNKNOWN
        made = value._replace(checked=checked)
        if value.special in _INTEGERS:
            made = made._replace(code=f"signed(-{self._whole_number(value)})")
        elif value.special == _DOUBLE:
            real = f"(-{self._real_number(value)})"
            made = made._replace(code=real) if value.actual == _DOUBLE else made._replace(real=real)
        else:
            made = made._replace(code=self._call(_negated, value))
        self._push(made)

    def _unary_not(self, step: Step) -> None:
        value = self._unary(step)
        # Validator and specialiser leave the type as it is; the value is an integer.
        checked = _S64 if step.typed == "DOUBLE" else value.checked
        real = ""
        if value.special in _INTEGERS:
            code = f"(not {self._whole_number(value)})"
        elif value.special == _DOUBLE:
            # It is used twice.
            real = self._named(self._real_number(value))
            code = f"(not {real})"
        else:
            code = self._call(_inverted, value)
        self._push(Value(checked, _S64, code, special=value.special, real=real))

    def _unary_bit_not(self, step: Step) -> None:
        value = self._pop()
        if value.checked not in (*_INTEGERS, _UNKNOWN) or value.actual in (_STRING, _DOUBLE):
            raise LinkError(f"{step.name} of a {value.actual}")
        code = value.code if value.actual in _INTEGERS else f"integer({value.code})"
        # Not ~: of a bool that is deprecated.
        self._push(Value(_U64, _U64, f"({code} ^ -1)", special=value.special))

    def _cast_to_s64(self, step: Step) -> None:
        value = self._pop()
        if value.checked not in ((_DOUBLE,) if step.typed else (*_NUMBERS, _UNKNOWN)):
            raise LinkError(f"a cast of a {value.checked}")
        if step.typed or value.special == _DOUBLE:
            made = Value(_S64, _S64, f"to_s64({self._real_number(value)})")
        elif value.special == _S64:
            made = Value(_S64, value.actual, self._whole_number(value))
        elif value.special not in (_U64, _UNKNOWN):
            raise LinkError(f"a cast of a {value.special}")
        elif value.actual == _S64:
            made = Value(_S64, _S64, value.code)
        elif value.actual == _DOUBLE:
            made = Value(_S64, _S64, f"to_s64({value.code})")
        elif value.actual == _UNKNOWN:
            made = Value(_S64, _S64, self._call(_cast, value))
        else:
            made = Value(_S64, _S64, f"{self._constant(_uncastable)}()")
        self._push(made._replace(special=_S64))

    def _call(self, function: Callable[..., object], value: Value) -> str:
        return f"{self._constant(function)}({value.code})"

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
        if self._indent > _MAX_NESTING:
            raise LinkError("too complex: operands within operands")
        name = self._named(self._whole_number(left))
        self._line(f"if {name}:" if step.name == "AND" else f"if not {name}:")
        depth, base = len(self._stack), self._base
        self._base = depth
        self._indent += 1
        self._range(target, nested=True)
        self._base = base
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
        self._push(Value(right.checked, actual, name, special=right.special))

    def _line(self, text: str) -> None:
        self._lines.append(" " * self._indent + text)


def _negated(value: object) -> int | float:
    if isinstance(value, float):
        return -value
    return operations.signed(-operations.integer(value))


def _inverted(value: object) -> bool:
    return not (value if isinstance(value, float) else operations.integer(value))


def _uncastable() -> int:
    raise TypeError("a cast of an unsigned integer")


def _cast(value: object) -> int:
    if isinstance(value, float):
        return operations.to_s64(value)
    return operations.integer(value)
