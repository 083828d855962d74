# SPDX-License-Identifier: MIT
"""Filter expressions: the worked examples of the facts, where errors are, how much there may be."""

from __future__ import annotations

import contextlib
import struct

import pytest

from ustconsumer.client.filter import FilterError, compile_filter
from ustconsumer.tracer import bytecode, contexts
from ustconsumer.tracer.compile import filter_of
from ustconsumer.tracer.types import i32


def number(value: int) -> str:
    return "41" + struct.pack("<q", value).hex()


def text(value: str) -> str:
    return value.encode().hex() + "00"


#: Expression, instructions, symbols: application facts, 8.5.
EXAMPLES = [
    ("int_field == 3", f"3bffff {number(3)} 0c 01", f"0000 {text('int_field')}"),
    (
        'int_field > 2 && str_field == "hel*"',
        f"3bffff {number(2)} 0e 391a00 3bffff 40 {text('hel*')} 0c 01",
        f"0000 {text('int_field')} 1000 {text('str_field')}",
    ),
    (
        "$ctx.vpid != 10 || !(dbl < 2.5)",
        f"46ffff {number(10)} 0d 3a1e00 3bffff 42 0000000000000440 0f 32 01",
        f"0000 {text('$ctx.vpid')} 1000 {text('dbl')}",
    ),
    (
        "(int_field & 0xff) == 1 || arrf[1] == 2",
        f"3bffff {number(255)} 09 {number(1)} 0c 3a3200 51 520e00 55 0100000000000000 56 "
        f"{number(2)} 0c 01",
        f"0000 {text('int_field')} 1b00 {text('arrf')}",
    ),
    (
        '$app.myprov:myctx == "foo" && -int_field < -0x10',
        f"46ffff 40 {text('foo')} 0c 391b00 3bffff 31 {number(16)} 31 0f 01",
        f"0000 {text('$app.myprov:myctx')} 0c00 {text('int_field')}",
    ),
    ('str_field != "a*b"', f"3bffff 4c {text('a*b')} 0d 01", f"0000 {text('str_field')}"),
    (
        '"abc" == str_field || ~i8 >= 1 << 2',
        f"40 {text('abc')} 3bffff 0c 3a2400 3bffff 62 {number(1)} {number(2)} 08 10 01",
        f"0500 {text('str_field')} 0c00 {text('i8')}",
    ),
    ("int_field", "3bffff 01", f"0000 {text('int_field')}"),
    ("a.b.c == 1", f"3bffff {number(1)} 0c 01", f"0000 {text('a.b.c')}"),
    # Casts follow what has a field's type, whatever signs are before it.
    (
        "!a && 1.5",
        f"3bffff 32 43 391200 42 {struct.pack('<d', 1.5).hex()} 44 01",
        f"0000 {text('a')}",
    ),
]


@pytest.mark.parametrize(("expression", "code", "symbols"), EXAMPLES)
def test_worked_examples(expression: str, code: str, symbols: str) -> None:
    instructions = bytes.fromhex(code)
    program = compile_filter(expression)
    assert program.reloc_offset == len(instructions)
    assert program.code.hex() == (instructions + bytes.fromhex(symbols)).hex()


@pytest.mark.parametrize(
    ("expression", "column", "words"),
    [
        ("", 1, "expression ends"),
        ("a == ", 6, "expression ends"),
        ("a == 1 b", 8, "operator is missing"),
        ("a + 1", 3, "arithmetic"),
        ("a == (b", 6, "never closed"),
        ("a)", 2, "operator is missing"),
        ('a == "x', 6, "closing quote"),
        ('a == "x\\n"', 8, "backslash"),
        ("a == ''", 6, "nothing between quotes"),
        ("a == 1 /* x", 8, "comment"),
        ("a = 1", 3, "no meaning"),
        ("a == 0X1F", 6, "0x instead"),
        ("a == 0u", 6, "without a suffix"),
        ("a[b]", 3, "index"),
        ("a[1", 4, "] is missing"),
        ("a.", 3, "member"),
        ("$ctx", 1, "name of a context"),
        ("$ctx[1].a", 1, "name of a context"),
        ("1 == $foo.x", 6, "$ctx.NAME"),
        ('"x"', 1, "no condition"),
        ("a == 1 && 'x'", 11, "text"),
        ('!"x"', 1, "of text"),
        ("1.5", 1, "no condition"),
        ("a & 1.5", 3, "integers only"),
        ('"x" == 1', 5, "text and a number"),
        ('a > "x*y"', 3, "only == and !="),
        ('"x*y" == "z*"', 7, "two patterns"),
        ("a == \0", 6, "cannot be printed"),
        ("a == \udc80", 6, "cannot be printed"),
    ],
)
def test_errors_say_where(expression: str, column: int, words: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(expression)
    assert caught.value.column == column
    assert str(caught.value).startswith(f"filter, column {column}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def nested(values: int) -> str:
    return " == (".join(["n"] * values) + ")" * (values - 1)


def test_values_that_wait() -> None:
    """Nine at a time end a program with liblttng-ust 2.13: an assertion in its interpreter."""
    fields = (("n", i32),)
    program = compile_filter(nested(8))
    assert filter_of(bytecode.check(*program), fields, contexts)((1,))  # type: ignore[arg-type]
    with pytest.raises(FilterError, match="more than 8 values"):
        compile_filter(nested(9))
    # One after the other they are no more than two.
    compile_filter(" == ".join(["n"] * 100))
    compile_filter(" && ".join(["n == 1"] * 100))


@pytest.mark.parametrize(
    "expression",
    [
        "9" * 60000 + " == a",
        "(" * 5000 + "a" + ")" * 5000,
        "a && " * 10000 + "a",
        "[" * 5000,
        "/*" * 5000,
        "a" * 70000,
        " || ".join(["a"] * 20000),
    ],
)
def test_much_of_anything(expression: str) -> None:
    """Whatever its length, an expression is compiled or refused: nothing else is raised."""
    column = 1
    with contextlib.suppress(FilterError):
        try:
            assert len(compile_filter(expression).code) <= 1 << 16
        except FilterError as error:
            column = error.column
            raise
    assert 1 <= column <= len(expression) + 1


def test_numbers_beyond_64_bits_are_the_greatest() -> None:
    """As lttng reads them; -1 is then what is compared."""
    assert compile_filter("a == 99999999999999999999999") == compile_filter(f"a == {(1 << 64) - 1}")
