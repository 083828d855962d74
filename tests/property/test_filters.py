# SPDX-License-Identifier: MIT
"""Compiled filters beside an interpreter that goes over the bytes, one instruction at a time."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ustconsumer.tracer.bytecode import BytecodeError, check
from ustconsumer.tracer.compile import LinkError, capture_of, filter_of
from ustconsumer.tracer.types import Enumeration, f64, i8, i64, sequence, string, u16, u32, u64

FIELDS: Any = (
    ("small", i8),
    ("signed", i64),
    ("half", u16),
    ("word", u32),
    ("large", u64),
    ("real", f64),
    ("text", string),
    ("other", string),
    ("bytes", sequence(i8)),
    ("words", sequence(u64)),
    ("color", Enumeration("color", i8, (("red", 0, 0),), {})),
)
CONTEXTS: dict[str, object] = {
    "$ctx.vpid": 4242,
    "$ctx.procname": b"worker*",
    "$app.a:number": -3,
    "$app.a:real": 0.25,
    "$app.a:text": b"abc",
    "$app.a:none": None,
}
_SIGNS = {"==": 12, "!=": 13, ">": 14, "<": 15, ">=": 16, "<=": 17}
_BITS = {">>": 7, "<<": 8, "&": 9, "|": 10, "^": 11}


class Contexts:
    def getter(self, name: str) -> Callable[[], object] | None:
        return (lambda: CONTEXTS[name]) if name in CONTEXTS else None


# -- what an expression is as bytecode --------------------------------------------------


class Assembler:
    def __init__(self) -> None:
        self.code = bytearray()
        self.symbols = bytearray()

    def emit(self, node: Any) -> None:
        kind = node[0]
        if kind == "number":
            self.code += b"\x41" + struct.pack("<q", node[1])
        elif kind == "real":
            self.code += b"\x42" + struct.pack("<d", node[1])
        elif kind == "literal":
            self.code += b"\x40" + node[1] + b"\0"
        elif kind == "glob":
            self.code += b"\x4c" + node[1] + b"\0"
        elif kind in ("field", "context"):
            self._symbol(node[1])
            self.code += (b"\x3b" if kind == "field" else b"\x46") + b"\xff\xff"
        elif kind == "element":
            self.code += b"\x51"
            at = self._symbol(node[1])
            self.code += b"\x52" + struct.pack("<H", at)
            self.code += b"\x55" + struct.pack("<Q", node[2]) + b"\x56"
        elif kind == "unary":
            self.emit(node[2])
            self.code += {"-": b"\x31", "!": b"\x32", "~": b"\x62", "cast": b"\x43"}[node[1]]
        elif kind == "logical":
            self.emit(node[2])
            at = len(self.code)
            self.code += b"\x39\0\0" if node[1] == "&&" else b"\x3a\0\0"
            self.emit(node[3])
            struct.pack_into("<H", self.code, at + 1, len(self.code))
        else:
            self.emit(node[2])
            self.emit(node[3])
            self.code.append((_SIGNS if kind == "compare" else _BITS)[node[1]])

    def _symbol(self, name: str) -> int:
        at = len(self.symbols) + 2
        self.symbols += struct.pack("<H", len(self.code)) + name.encode() + b"\0"
        return at


def assembled(node: Any) -> tuple[bytes, int]:
    assembler = Assembler()
    assembler.emit(node)
    assembler.code.append(1)
    return bytes(assembler.code + assembler.symbols), len(assembler.code)


# -- the interpreter --------------------------------------------------------------------


class RejectedError(Exception):
    """The interpreter meets what is an error at run time."""


def wrap(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


class Text(bytes):
    """The text of a field. What is not one is a literal, with backslashes and a star."""


def interpret(code: bytes, reloc: int, values: dict[str, Any]) -> bool:
    """Return whether an event passes, by the facts' table of instructions.

    On the stack: int, float, Text, bytes for a literal, str for a pattern.
    """
    names: dict[int, str] = {}
    at = reloc
    while at < len(code):
        end = code.index(0, at + 2)
        names[int.from_bytes(code[at : at + 2], "little")] = code[at + 2 : end].decode()
        at = end + 1
    stack: list[Any] = []
    at = 0
    while True:
        number, start = code[at], at
        at += 1
        if number == 1:
            return _truth(stack[-1])
        if number in (0x41, 0x42):
            stack.append(struct.unpack_from("<q" if number == 0x41 else "<d", code, at)[0])
            at += 8
        elif number in (0x40, 0x4C):
            end = code.index(0, at)
            stack.append(code[at:end] if number == 0x40 else code[at:end].decode("latin-1"))
            at = end + 1
        elif number in (0x3B, 0x46):
            stack.append(_loaded(values if number == 0x3B else CONTEXTS, names[start]))
            at += 2
        elif number == 0x51:
            stack.append(values)
        elif number == 0x52:
            stack.append(stack.pop()[names[start]])
            at += 2
        elif number == 0x55:
            elements, index = list(stack.pop()), int.from_bytes(code[at : at + 8], "little")
            if index >= len(elements):
                raise RejectedError
            stack.append(elements[index])
            at += 8
        elif number == 0x56:
            stack.append(wrap(stack.pop()))
        elif number in (0x39, 0x3A):
            target = int.from_bytes(code[at : at + 2], "little")
            at += 2
            if not isinstance(stack[-1], int):
                raise RejectedError
            if (stack[-1] == 0) == (number == 0x39):
                stack[-1] = int(number == 0x3A)
                at = target
            else:
                stack.pop()
        elif number in (0x31, 0x32, 0x43, 0x62):
            stack.append(_unary(number, stack.pop()))
        else:
            right = stack.pop()
            stack.append(_binary(number, stack.pop(), right))


def _truth(value: Any) -> bool:
    if not isinstance(value, int):
        raise RejectedError
    return value != 0


def _loaded(values: dict[str, Any], name: str) -> Any:
    value = values[name]
    if value is None:
        raise RejectedError
    if isinstance(value, bytes):
        return Text(value)
    return wrap(value) if isinstance(value, int) else value


def _unary(number: int, value: Any) -> Any:
    if not isinstance(value, int | float) or (number == 0x62 and isinstance(value, float)):
        raise RejectedError
    if number == 0x32:
        return int(not value)
    if number == 0x43:
        if isinstance(value, int):
            return value
        fits = value == value and -(2.0**63) <= value < 2.0**63
        return int(value) if fits else -(1 << 63)
    if number == 0x62:
        return wrap(~value)
    return -value if isinstance(value, float) else wrap(-value)


def _binary(number: int, left: Any, right: Any) -> int:
    if number < 12:
        if not isinstance(left, int) or not isinstance(right, int):
            raise RejectedError
        if number in (7, 8):
            if not 0 <= right < 64:
                raise RejectedError
            return wrap(left % (1 << 64) >> right if number == 7 else left << right)
        return wrap({9: left & right, 10: left | right, 11: left ^ right}[number])
    if isinstance(left, str) or isinstance(right, str):
        pattern, text = (left, right) if isinstance(left, str) else (right, left)
        if not isinstance(text, bytes) or number not in (12, 13):
            raise RejectedError
        return int(_matches(pattern, text.decode("latin-1")) == (number == 12))
    if isinstance(left, bytes) != isinstance(right, bytes):
        raise RejectedError
    if isinstance(left, bytes):
        left, right = _order(left, right), 0
    elif isinstance(left, float) or isinstance(right, float):
        left, right = float(left), float(right)
    order = {
        12: left == right,
        13: left != right,
        14: left > right,
        15: left < right,
        16: left >= right,
        17: left <= right,
    }
    return int(order[number])


def _matches(pattern: str, text: str) -> bool:
    """A pattern against text, the long way: a star is nothing, or a character and a star."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return _matches(pattern[1:], text) or (bool(text) and _matches(pattern, text[1:]))
    if pattern[0] == "\\":
        pattern = pattern[1:]
    return bool(pattern) and text[:1] == pattern[0] and _matches(pattern[1:], text[1:])


def _order(left: bytes, right: bytes) -> int:
    """Characters are signed; a star of a literal is equal to any rest of the other."""
    ours, theirs = _characters(left), _characters(right)
    for at in range(max(len(ours), len(theirs))):
        one = ours[at] if at < len(ours) else None
        other = theirs[at] if at < len(theirs) else None
        if "*" in (one, other):
            return 0
        if one is None or other is None:
            return -1 if one is None else 1
        if one != other:
            return -1 if int(one) < int(other) else 1
    return 0


def _characters(text: bytes) -> list[int | str]:
    signed = [byte - 256 if byte > 127 else byte for byte in text]
    if isinstance(text, Text):
        return list(signed)
    result: list[int | str] = []
    characters = iter(signed)
    for character in characters:
        if character == ord("\\"):
            result.append(next(characters))
        else:
            result.append("*" if character == ord("*") else character)
    return result


# -- expressions, of types that the tracer's validator lets pass ------------------------

#: Values of fields and of literals: the same ones, or nothing would ever be equal.
_EDGES = [
    *(0, 1, 2, 3, 63, 64, 97, 127, 128, 255, 256, 65535, -1, -2, -128),
    *(1 << 31, 1 << 32, (1 << 53) + 1, (1 << 63) - 1, -(1 << 63)),
]
_REAL_EDGES = [
    *(0.0, -0.0, 1.0, 0.5, -1.5, 97.0, 2.0**53, 2.0**63, -(2.0**63), 1.5e19, -1.5e19),
    *(math.inf, -math.inf, math.nan),
]
_WORDS = [
    *(b"", b"a", b"b", b"ab", b"abc", b"aabb", b"a*", b"a*b", b"*", b"a\\", b"a\\b"),
    *(b"\xc3", b"a\xc3", b"z"),
]
_NUMBERS = st.one_of(st.sampled_from(_EDGES), st.integers(-(1 << 63), (1 << 63) - 1))
_REALS = st.one_of(st.sampled_from(_REAL_EDGES), st.floats())
_QUOTED = st.sampled_from([word.replace(b"\\", b"\\\\").replace(b"*", b"\\*") for word in _WORDS])
_LITERALS = st.tuples(_QUOTED, st.sampled_from([b"", b"*"])).map(b"".join)
_GLOBS = st.lists(_QUOTED, min_size=2, max_size=3).map(b"*".join)


def _nodes(kind: str, *strategies: Any) -> Any:
    return st.tuples(st.just(kind), *strategies)


_INTEGER_LEAVES = st.one_of(
    _nodes("number", _NUMBERS),
    _nodes("field", st.sampled_from(["small", "signed", "half", "word", "large", "color"])),
    _nodes("context", st.sampled_from(["$ctx.vpid", "$app.a:number", "$app.a:none"])),
    _nodes("element", st.sampled_from(["bytes", "words"]), st.integers(0, 3)),
    _nodes("unary", st.just("cast"), _nodes("field", st.just("real"))),
)
# Four levels need six of the eight places of the stack.
_INTEGERS = st.recursive(
    _INTEGER_LEAVES,
    lambda inner: st.one_of(
        _nodes("unary", st.sampled_from(["-", "~"]), inner),
        _nodes("bits", st.sampled_from(sorted(_BITS)), inner, _INTEGER_LEAVES),
    ),
    max_leaves=4,
)
_REAL_FIELD = _nodes("field", st.just("real"))
_REAL_OPERANDS = st.one_of(
    _nodes("real", _REALS),
    _nodes("field", st.just("real")),
    _nodes("context", st.just("$app.a:real")),
    _nodes("unary", st.just("-"), _nodes("field", st.just("real"))),
)
_TEXT_OPERANDS = st.one_of(
    _nodes("field", st.sampled_from(["text", "other"])),
    _nodes("context", st.sampled_from(["$ctx.procname", "$app.a:text"])),
)
#: Contexts whose type is known only at run time: these may be compared with anything.
_DYNAMIC = [name for name in CONTEXTS if name.startswith("$app.")]
_ANY_SIGN = st.sampled_from(sorted(_SIGNS))
_COMPARISONS = st.one_of(
    _nodes("compare", _ANY_SIGN, _INTEGERS, _INTEGERS),
    _nodes("compare", _ANY_SIGN, _INTEGERS, _REAL_OPERANDS),
    _nodes("compare", _ANY_SIGN, _nodes("field", st.just("signed")), _REAL_FIELD),
    _nodes("compare", _ANY_SIGN, _REAL_FIELD, _nodes("field", st.just("signed"))),
    _nodes("compare", _ANY_SIGN, _REAL_OPERANDS, st.one_of(_INTEGERS, _REAL_OPERANDS)),
    _nodes("compare", _ANY_SIGN, _TEXT_OPERANDS, _nodes("literal", _LITERALS)),
    _nodes("compare", _ANY_SIGN, _nodes("literal", _LITERALS), _TEXT_OPERANDS),
    _nodes("compare", _ANY_SIGN, _TEXT_OPERANDS, _TEXT_OPERANDS),
    _nodes("compare", st.sampled_from(["==", "!="]), _TEXT_OPERANDS, _nodes("glob", _GLOBS)),
    _nodes("compare", _ANY_SIGN, _nodes("context", st.sampled_from(_DYNAMIC)), _INTEGERS),
)
_SIGNED = st.sampled_from(["small", "signed", "half", "large", "real", "color"])
_CONDITIONS = st.one_of(
    _COMPARISONS,
    _nodes("unary", st.just("!"), _COMPARISONS),
    _nodes("unary", st.just("cast"), _nodes("field", _SIGNED)),
)
# Each <= takes a place of the specialiser's ten for good.
_FILTERS = st.recursive(
    _CONDITIONS,
    lambda inner: st.one_of(
        _nodes("logical", st.sampled_from(["&&", "||"]), inner, inner),
        _nodes("unary", st.just("!"), inner),
        # What && and || are when they are true.
        _nodes("compare", st.sampled_from(["==", ">"]), inner, _nodes("number", st.just(1))),
    ),
    max_leaves=4,
)


def _events(count: int) -> list[dict[str, Any]]:
    """Return events of edge cases: as many of any two fields together as there is room for."""
    draw = random.Random(8)  # noqa: S311

    def low(size: int, *, signed: bool) -> int:
        value = draw.choice(_EDGES) % (1 << size)
        return value - (1 << size) if signed and value >> size - 1 else value

    return [
        {
            "small": low(8, signed=True),
            "signed": draw.choice(_EDGES),
            "half": low(16, signed=False),
            "word": low(32, signed=False),
            "large": low(64, signed=False),
            "real": draw.choice(_REAL_EDGES),
            "text": draw.choice(_WORDS),
            "other": draw.choice(_WORDS),
            "bytes": [low(8, signed=True) for _ in range(draw.randrange(4))],
            "words": [low(64, signed=False) for _ in range(draw.randrange(4))],
            "color": low(8, signed=True),
        }
        for _ in range(count)
    ]


EVENTS = _events(50)


def native(event: dict[str, Any]) -> tuple[object, ...]:
    """Return an event's values as native code hands them to filters."""
    raw = bytes(value & 0xFF for value in event["bytes"])
    shown = {**event, "bytes": raw, "words": tuple(event["words"])}
    return tuple(shown[name] for name, _ in FIELDS)


def passes(function: Callable[[tuple[object, ...]], object], event: dict[str, Any]) -> bool:
    try:
        return bool(function(native(event)))
    except Exception:
        return False


def check_filter(node: Any) -> None:
    """Compare what is compiled with what is interpreted, for each event."""
    code, reloc = assembled(node)
    function = filter_of(check(code, reloc), FIELDS, Contexts())
    for event in EVENTS:
        try:
            expected = interpret(code, reloc, event)
        except RejectedError:
            expected = False
        assert passes(function, event) == expected, (node, event)


def grid() -> Iterator[Any]:
    """Yield each operation with each kind of operands on either side."""
    integers = [("field", name) for name in ("small", "signed", "half", "large", "color")]
    integers += [("number", number) for number in (0, 3, 63, -1, (1 << 53) + 1, 97)]
    integers += [("element", "bytes", 0), ("element", "words", 1), ("context", "$app.a:number")]
    reals = [("field", "real"), ("real", 0.5), ("real", 2.0**53), ("context", "$app.a:real")]
    texts = [("field", "text"), ("field", "other"), ("context", "$app.a:text")]
    texts += [("literal", text) for text in (b"", b"a", b"a*", b"\\*", b"a\\\\", b"\xc3", b"*")]
    casts = [("unary", "cast", ("field", name)) for name in ("real", "signed", "small")]
    for sign in _SIGNS:
        yield from (("compare", sign, a, b) for a in integers + reals for b in integers + reals)
        yield from (("compare", sign, a, b) for a in texts for b in texts)
        yield from (("compare", sign, a, ("number", 0)) for a in casts)
    for pattern in (b"*", b"a*b", b"*b", b"*a*b*", b"\\**", b"a*\\\\"):
        for sign in ("==", "!="):
            yield from (("compare", sign, a, ("glob", pattern)) for a in texts[:3])
            yield from (("compare", sign, ("glob", pattern), a) for a in texts[:3])
    for a in integers:
        for operation in _BITS:
            yield from (
                ("compare", sign, ("bits", operation, a, b), ("number", 1))
                for b in integers
                for sign in ("==", ">")
            )
        for operation in "-~!":
            yield from (("compare", ">", ("unary", operation, a), b) for b in integers)
    for a in casts:
        for operation in ("&&", "||"):
            result = [("logical", operation, a, b) for b in casts]
            yield from result
            yield from (("compare", "==", value, ("number", 1)) for value in result)


def test_each_operation_as_interpreted() -> None:
    for node in grid():
        check_filter(node)


@settings(max_examples=300)
@given(_FILTERS)
def test_as_interpreted(node: Any) -> None:
    check_filter(node)


@given(
    _FILTERS,
    st.sampled_from(EVENTS),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(-2, 2),
)
def test_what_is_no_bytecode_is_refused(
    node: Any, event: dict[str, Any], changes: list[tuple[int, int]], shift: int
) -> None:
    """Bytes changed anywhere: an error of ours, or a function that ends."""
    code, reloc = assembled(node)
    hostile = bytearray(code)
    for at, byte in changes:
        hostile[at % len(hostile)] = byte
    for make in (filter_of, capture_of):
        try:
            function = make(check(bytes(hostile), reloc + shift), FIELDS, Contexts())
        except (BytecodeError, LinkError):
            continue
        passes(function, event)
