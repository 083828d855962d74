# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from ustconsumer.ctf.skip import FIXED, OPAQUE, SEQUENCE, STRING, Steps, steps
from ustconsumer.ctf.types import (
    Array,
    Enumeration,
    Field,
    FieldType,
    FloatingPoint,
    Integer,
    Sequence,
    String,
    Struct,
    Variant,
)

U8, U16, U32, U64 = (Integer(size, signed=False) for size in (8, 16, 32, 64))
ALIGNED = Integer(32, signed=False, alignment=32)


def record(*types: FieldType) -> list[Field]:
    return [Field(f"f{number}", type_) for number, type_ in enumerate(types)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], []),
        (record(U8, U16, U32, U64), [(FIXED, 1 + 2 + 4 + 8)]),
        (record(FloatingPoint(8, 24), FloatingPoint(11, 53)), [(FIXED, 4 + 8)]),
        (record(Enumeration("e", U16, 0)), [(FIXED, 2)]),
        (record(Array(U32, 5), U8), [(FIXED, 5 * 4 + 1)]),
        (record(Array(U32, 0)), []),
        (record(Struct(), String(), String(), U8), [(STRING, 0), (STRING, 0), (FIXED, 1)]),
        (record(U8, U64, Sequence(U16, "f1"), U8), [(FIXED, 1), (SEQUENCE + 3, 2), (FIXED, 1)]),
        (record(U8, Sequence(U64, "f0")), [(SEQUENCE, 8)]),
        (record(U16, Sequence(U8, "f0")), [(SEQUENCE + 1, 1)]),
        (record(U32, Sequence(U8, "f0")), [(SEQUENCE + 2, 1)]),
        # What cannot be skipped with these operations says so, whatever it is next to.
        (record(ALIGNED), [(OPAQUE, 0)]),
        (record(Array(U8, 3, alignment=4)), [(OPAQUE, 0)]),
        (record(Variant("t", (Field("a", U8),))), [(OPAQUE, 0)]),
        (record(ALIGNED, Sequence(U8, "f0")), [(OPAQUE, 0)]),
        (record(Integer(8, signed=True), Sequence(U8, "f0")), [(OPAQUE, 0)]),
        (record(U8, Sequence(ALIGNED, "f0")), [(OPAQUE, 0)]),
        (record(Sequence(U8, "gone")), [(OPAQUE, 0)]),
    ],
)
def test_steps(fields: list[Field], expected: Steps) -> None:
    assert steps(fields) == expected
