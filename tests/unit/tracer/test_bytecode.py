# SPDX-License-Identifier: MIT
"""Bytecode of filters and captures: the worked examples of the facts, and what is refused."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest

from ustconsumer.abi.bytecode import INSTRUCTIONS
from ustconsumer.tracer.bytecode import Bytecode, BytecodeError, check
from ustconsumer.tracer.compile import Enumerated, LinkError, capture_of, filter_of
from ustconsumer.tracer.types import FieldType, enumeration, f64, i8, i32, sequence, string, u8, u64

FIELDS: tuple[tuple[str, FieldType], ...] = (
    ("int_field", i32),
    ("str_field", string),
    ("dbl", f64),
    ("arrf", sequence(u8)),
    ("i8", i8),
    ("u64", u64),
    ("signed_bytes", sequence(i8)),
    ("color", enumeration({"red": 0}, name="color")),
)  # type: ignore[assignment]
NAMES = [name for name, _ in FIELDS]
DEFAULTS = (0, b"", 0.0, b"", 0, 0, b"", 0)


class Contexts:
    """Contexts that have these values."""

    def __init__(self, **values: object):
        self._values = {name.replace("__", ":"): value for name, value in values.items()}

    def getter(self, name: str) -> Callable[[], object] | None:
        bare = name.removeprefix("$ctx.").removeprefix("$app.")
        if bare not in self._values:
            return None
        return lambda: self._values[bare]


def s64(value: int) -> bytes:
    return b"\x41" + struct.pack("<q", value)


def program(*parts: str | bytes, symbols: dict[int, str] | None = None) -> Bytecode:
    code = b"".join(bytes.fromhex(part) if isinstance(part, str) else part for part in parts)
    table = b"".join(
        struct.pack("<H", at) + name.encode() + b"\0" for at, name in (symbols or {}).items()
    )
    return check(code + table, len(code))


def passes(bytecode: Bytecode, context: Contexts | None = None, **values: object) -> bool:
    """As native code asks: an exception is a no."""
    event = tuple(values.get(name, default) for name, default in zip(NAMES, DEFAULTS, strict=True))
    try:
        return bool(filter_of(bytecode, FIELDS, context or Contexts())(event))
    except LinkError:
        return False
    except Exception:
        return False


# -- application facts, 8.5: what lttng put on the wire ------------------------------------


def test_equal() -> None:
    bytecode = program("3bffff", s64(3), "0c01", symbols={0: "int_field"})
    assert passes(bytecode, int_field=3)
    assert not passes(bytecode, int_field=4)


def test_and_with_a_prefix() -> None:
    bytecode = program(
        *("3bffff", s64(2), "0e391a00", "3bffff", b"\x40hel*\0", "0c01"),
        symbols={0: "int_field", 0x10: "str_field"},
    )
    assert passes(bytecode, int_field=3, str_field=b"hello")
    assert passes(bytecode, int_field=3, str_field=b"hel")
    assert not passes(bytecode, int_field=3, str_field=b"he")
    assert not passes(bytecode, int_field=2, str_field=b"hello")


def test_context_or_not() -> None:
    bytecode = program(
        *("46ffff", s64(10), "0d3a1e00", "3bffff", b"\x42", struct.pack("<d", 2.5), "0f3201"),
        symbols={0: "$ctx.vpid", 0x10: "dbl"},
    )
    assert passes(bytecode, Contexts(vpid=11), dbl=0.0)
    assert passes(bytecode, Contexts(vpid=10), dbl=3.0)
    assert not passes(bytecode, Contexts(vpid=10), dbl=0.0)
    assert not passes(bytecode, Contexts(), dbl=3.0)


def test_bits_or_element() -> None:
    bytecode = program(
        *("3bffff", s64(255), "09", s64(1), "0c3a3200", "51520e0055", struct.pack("<Q", 1), "56"),
        *(s64(2), "0c01"),
        symbols={0: "int_field", 0x1B: "arrf"},
    )
    assert passes(bytecode, int_field=257)
    assert passes(bytecode, arrf=b"\1\2")
    assert not passes(bytecode, arrf=b"\1\3")
    assert not passes(bytecode, arrf=b"\1")  # no such element


def test_application_context() -> None:
    bytecode = program(
        *("46ffff", b"\x40foo\0", "0c391b00", "3bffff31", s64(16), "310f01"),
        symbols={0: "$app.myprov:myctx", 0xC: "int_field"},
    )
    assert passes(bytecode, Contexts(myprov__myctx=b"foo"), int_field=17)
    assert not passes(bytecode, Contexts(myprov__myctx=b"fo"), int_field=17)
    assert not passes(bytecode, Contexts(myprov__myctx=7), int_field=17)
    assert not passes(bytecode, Contexts(myprov__myctx=None), int_field=17)
    assert not passes(bytecode, Contexts(myprov__myctx=b"foo"), int_field=16)


def test_pattern() -> None:
    bytecode = program("3bffff", b"\x4ca*b\0", "0d01", symbols={0: "str_field"})
    assert not passes(bytecode, str_field=b"a--b")
    assert passes(bytecode, str_field=b"a--c")


def test_literal_first_and_shifts() -> None:
    bytecode = program(
        *(b"\x40abc\0", "3bffff0c3a2400", "3bffff62", s64(1), s64(2), "081001"),
        symbols={5: "str_field", 0xC: "i8"},
    )
    assert passes(bytecode, str_field=b"abc")
    assert passes(bytecode, i8=-5)  # ~-5 is 4
    assert not passes(bytecode, i8=-4)


def test_number_alone() -> None:
    bytecode = program("3bffff01", symbols={0: "int_field"})
    assert passes(bytecode, int_field=-1)
    assert not passes(bytecode, int_field=0)


def test_captures() -> None:
    event = (-1, b"text", 0.5, b"\1\xff", -2, 1 << 63, b"\xff", 5)

    def captured(name: str, *more: str | bytes) -> object:
        path = program("51520200", *more, "01", symbols={1: name})
        return capture_of(path, FIELDS, Contexts(vpid=7))(event)

    assert captured("int_field") == -1
    assert captured("str_field") == b"text"
    assert captured("dbl") == 0.5
    assert captured("arrf") == [1, 255]
    assert captured("arrf", "55", struct.pack("<Q", 1)) == 255
    assert captured("signed_bytes") == [-1]
    assert captured("u64") == 1 << 63
    assert captured("color") == Enumerated(5)
    path = program("4f52020001", symbols={1: "vpid"})
    assert capture_of(path, FIELDS, Contexts(vpid=7))(event) == 7
    with pytest.raises(LinkError):
        captured("absent")


# -- refusals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reloc"),
    [
        (b"", 1),  # symbols behind the end
        (b"\x41" + bytes(7), 8),  # an operand cut off
        (b"\x40abc", 4),  # text without end
        (b"\x05", 1),  # arithmetic
        (b"\x3c\0\0", 3),  # a reference already resolved
        (b"\x3b\xff\xff", 3),  # a field without a name
        (b"\x52\0\0", 3),  # the same, in a path
        (b"\x01\0\0a", 1),  # a symbol without end
        (b"\x01\5\0a\0", 1),  # a symbol for no instruction
        (b"\x01\0\0a\0", 1),  # a symbol for one that takes none
        (b"\xff", 1),
        (bytes(1 << 16) + b"\1", 1),
    ],
)
def test_no_bytecode(code: bytes, reloc: int) -> None:
    with pytest.raises(BytecodeError):
        check(code, reloc)


@pytest.mark.parametrize(
    "parts",
    [
        [],  # nothing is returned
        ["01"],  # an empty stack
        [s64(1), "0c01"],
        [s64(1), b"\x40a\0", "0c01"],  # a number and text
        [b"\x4ca*\0", b"\x4ca*\0", "0c01"],  # two patterns
        [b"\x40a\0", b"\x4ca*\0", "0e01"],  # a pattern ordered
        [b"\x40a\0", "3201"],  # not text
        [b"\x42", struct.pack("<d", 1), s64(1), "0901"],  # bits of a real number
        [b"\x40a\0", "01"],  # a filter that is text
        [b"\x42", struct.pack("<d", 1), "01"],
        [s64(1) * 9, "01"],  # more than the stack holds
        [s64(1), "390000", s64(1), "01"],  # a jump backwards
        [s64(1), "39ffff", s64(1), "01"],  # out of the program
        [s64(1), "390d00", s64(1), "01"],  # into an instruction
        [s64(1), "390c00", "01"],  # over nothing
        [s64(1), "391e00", s64(1), s64(1), "01"],  # over two operands
        [s64(1), "391900", b"\x42", struct.pack("<d", 1), "01"],  # types that do not agree
        ["51", "5601"],  # a root loaded
        ["51", "55000000000000000001"],  # an element of the root
    ],
)
def test_programs_that_mean_nothing(parts: list[str | bytes]) -> None:
    bytecode = program(*parts)
    with pytest.raises(LinkError):
        filter_of(bytecode, FIELDS, Contexts())


def test_a_long_chain_is_no_deep_one() -> None:
    """Hundreds of conditions, one after the other, and more nesting than Python takes."""
    one = [s64(1)]
    for _ in range(2000):
        at = sum(map(len, one))
        one += [b"\x39" + struct.pack("<H", at + 3 + 9), s64(1)]
    assert passes(program(*one, "01"))
    depth = 200
    head = 12 * depth
    end = head + 9
    nested = b"".join(s64(1) + b"\x39" + struct.pack("<H", end) for _ in range(depth)) + s64(1)
    with pytest.raises(LinkError, match="too complex"):
        filter_of(program(nested, "01"), FIELDS, Contexts())


@pytest.mark.repeat(ci=1, soak=100)
def test_random_programs(repeat: int) -> None:
    """Whatever comes, it is refused or compiled; what is compiled ends, if with an error."""
    compiled = 0
    for run in range(repeat):
        random_ = random.Random(run)  # noqa: S311
        for _ in range(3000):
            parts: list[bytes] = []
            symbols: dict[int, str] = {}
            for _ in range(random_.randrange(1, 12)):
                number = random_.choice([*INSTRUCTIONS, 65, 65, 59, 59, 64, 12, 0, 200])
                at = sum(map(len, parts))
                instruction = INSTRUCTIONS.get(number)
                code = bytes([number])
                if instruction is not None and instruction.operand == "string":
                    code += random_.choice([b"a\0", b"a*\0", b"\\*\\\0", b"\0"])
                elif instruction is not None and instruction.name in ("AND", "OR"):
                    code += struct.pack("<H", at + random_.randrange(3, 40))
                elif instruction is not None and instruction.operand:
                    value = random_.choice([0, 1, 2, 63, 64, 255])
                    code += struct.pack(f"<{instruction.operand}", value)
                if number in (59, 70):
                    names = NAMES if number == 59 else ["$ctx.vpid", "$app.a:b", "$ctx.none"]
                    symbols[at] = random_.choice(names)
                parts.append(code)
            try:
                bytecode = program(*parts, "01", symbols=symbols)
                function = filter_of(bytecode, FIELDS, Contexts(vpid=3, a__b=b"x"))
            except (BytecodeError, LinkError):
                continue
            compiled += 1
            try:
                function((1, b"a", 0.5, b"\1", -1, 1 << 63, b"\xff", 0))
            except (TypeError, ValueError, IndexError):
                continue
    assert compiled > 20 * repeat
