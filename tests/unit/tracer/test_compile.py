# SPDX-License-Identifier: MIT
"""Bytecode as functions: what liblttng-ust 2.13 does by mistake, and how much there may be.

The bytecode is what the real ``lttng`` makes of the expressions beside it; what passes is
what passed in a C program with liblttng-ust 2.13.5.
"""

from __future__ import annotations

import struct
import warnings
from typing import Any

import pytest

from ustconsumer.tracer import contexts
from ustconsumer.tracer.bytecode import check
from ustconsumer.tracer.compile import LinkError, filter_of
from ustconsumer.tracer.types import FieldType, f64, i32, sequence, u8

FIELDS: tuple[tuple[str, FieldType], ...] = (
    ("n", i32),
    ("f", f64),
    ("bytes", sequence(u8)),
)  # type: ignore[assignment]

CAST, NOT, MINUS, BIT_NOT, RETURN = b"\x43", b"\x32", b"\x31", b"\x62", b"\x01"
EQ, LT, LE = b"\x0c", b"\x0f", b"\x11"


def s64(value: int) -> bytes:
    return b"\x41" + struct.pack("<q", value)


def reference(name: str) -> tuple[bytes, str]:
    return b"\x3b\xff\xff", name


def compiled(*parts: bytes | tuple[bytes, str]) -> Any:
    """Return the function; a tuple is an instruction that needs a symbol."""
    code, table = b"", b""
    for part in parts:
        if isinstance(part, tuple):
            instruction, name = part
            table += struct.pack("<H", len(code)) + name.encode() + b"\0"
            part = instruction
        code += part
    return filter_of(check(code + table, len(code)), FIELDS, contexts)


def passes(function: Any, n: int = 0, f: float = 0.0, elements: bytes = b"") -> bool:
    try:
        return bool(function((n, f, elements)))
    except TypeError:
        return False


# -- mistakes that a C program beside makes as well ----------------------------------------


def test_a_cast_of_an_unsigned_element_rejects() -> None:
    """``bytes[0] && 1``."""
    path = (b"\x51", (b"\x52\x02\x00", "bytes"), b"\x55" + bytes(8), b"\x56")
    bare = compiled(*path, RETURN)
    assert passes(bare, elements=b"\x07")
    at = 1 + 3 + 9 + 1
    both = compiled(*path, CAST, b"\x39" + struct.pack("<H", at + 1 + 3 + 9), s64(1), RETURN)
    assert not passes(both, elements=b"\x07")


@pytest.mark.parametrize(("f", "once"), [(0.0, True), (0.1, False), (-1.5, False)])
def test_not_leaves_the_real_number_in_memory(f: float, once: bool) -> None:
    """``!f``, ``!!f``, ``!f == 0``: the second looks at the number, not at the first's result."""
    assert passes(compiled(reference("f"), NOT, RETURN), f=f) is once
    assert passes(compiled(reference("f"), NOT, NOT, RETURN), f=f) is once
    assert passes(compiled(reference("f"), NOT, s64(0), EQ, RETURN), f=f) is (f == 0)
    # ``!f || 0``, with the cast that lttng adds
    either = compiled(reference("f"), NOT, CAST, b"\x3a\x11\x00", s64(0), RETURN)
    assert passes(either, f=f) is (int(f) != 0)


@pytest.mark.parametrize(("sign", "most"), [(LE, 9), (LT, 40)])
def test_ten_times_less_or_equal_is_too_much(sign: bytes, most: int) -> None:
    """``n <= 9 && n <= 9 && ...``: each <= takes a place of the specialiser's for good."""

    def conditions(count: int) -> Any:
        parts: list[bytes | tuple[bytes, str]] = [reference("n"), s64(9), sign]
        at = 13
        for _ in range(count - 1):
            at += 3 + 13
            parts += [b"\x39" + struct.pack("<H", at), reference("n"), s64(9), sign]
        return compiled(*parts, RETURN)

    assert passes(conditions(most), n=3)
    assert not passes(conditions(most), n=10)
    if sign == LE:
        with pytest.raises(LinkError, match="full"):
            conditions(most + 1)


def test_what_nobody_wrote_is_not_read() -> None:
    """``f == (n <= 3)``: to the specialiser the left side is n, whose register is gone."""
    with pytest.raises(LinkError):
        compiled(reference("f"), reference("n"), s64(3), LE, EQ, RETURN)


# -- how much there may be ---------------------------------------------------------------


def nested(depth: int) -> Any:
    """``1 && (1 && ( ... 1))``: one jump target for all."""
    end = 12 * depth + 9
    jumps = (s64(1) + b"\x39" + struct.pack("<H", end)) * depth
    return compiled(jumps, s64(1), RETURN)


def test_nesting() -> None:
    assert passes(nested(60))
    # More than Python has levels of blocks, and more than it has of calls.
    for depth in (100, 600, 5000):
        with pytest.raises(LinkError, match="too complex"):
            nested(depth)


@pytest.mark.parametrize("operation", [NOT, MINUS, BIT_NOT])
def test_long_chains_of_operations(operation: bytes) -> None:
    """Python nests 200 parentheses; liblttng-ust knows no limit here, nor need we."""
    function = compiled(reference("n"), operation * 2000, RETURN)
    assert (passes(function, n=5), passes(function, n=0)) == (True, False)


def test_operands_of_a_jump_are_left_alone() -> None:
    """A comparison, on the right of &&, of what is on the left of it."""
    with pytest.raises(LinkError, match="empty"):
        compiled(s64(7), s64(1), b"\x39\x28\x00", s64(7), EQ, s64(1), RETURN)


def test_bits_of_a_comparison() -> None:
    """``~(n == 1)``: what Python warns of must not be what is done."""
    function = compiled(reference("n"), s64(1), EQ, BIT_NOT, s64(-2), EQ, RETURN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert function((1, 0.0, b""))
        assert not function((2, 0.0, b""))
