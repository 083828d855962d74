# SPDX-License-Identifier: MIT
"""Instructions of filter and capture bytecode, as rows.

All operands are unaligned and in host byte order. What follows the instructions is the
symbol table: entries of a u16, the offset of an instruction, and a NUL-terminated name.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["INSTRUCTIONS", "MAX_BYTECODE", "MAX_DEPTH", "Instruction"]

#: Bytes of instructions and symbols together.
MAX_BYTECODE = 1 << 16
#: Values on the stack.
MAX_DEPTH = 8


class Instruction(NamedTuple):
    """``operand``: a `struct` code, "string" for text up to a NUL, empty for none.

    ``typed``: for operands of which types alone; the operation is the one before the ``_``.
    """

    name: str
    operand: str = ""
    typed: str = ""


_COMPARISONS = ("EQ", "NE", "GT", "LT", "GE", "LE")
_KINDS = ("STRING", "S64", "DOUBLE", "DOUBLE_S64", "S64_DOUBLE")

#: By number. Numbers missing here are refused: unknown, unsupported by the tracer (arithmetic),
#: or of its own making (references it has resolved already).
INSTRUCTIONS: dict[int, Instruction] = {
    1: Instruction("RETURN"),
    7: Instruction("RSHIFT"),
    8: Instruction("LSHIFT"),
    9: Instruction("BIT_AND"),
    10: Instruction("BIT_OR"),
    11: Instruction("BIT_XOR"),
    **{12 + n: Instruction(name) for n, name in enumerate(_COMPARISONS)},
    **{
        18 + 6 * k + n: Instruction(name, typed=kind)
        for k, kind in enumerate(_KINDS)
        for n, name in enumerate(_COMPARISONS)
    },
    48: Instruction("UNARY_PLUS"),
    49: Instruction("UNARY_MINUS"),
    50: Instruction("UNARY_NOT"),
    **{
        51 + n: Instruction(f"UNARY_{name}", typed="S64")
        for n, name in enumerate(("PLUS", "MINUS", "NOT"))
    },
    **{
        54 + n: Instruction(f"UNARY_{name}", typed="DOUBLE")
        for n, name in enumerate(("PLUS", "MINUS", "NOT"))
    },
    57: Instruction("AND", "H"),
    58: Instruction("OR", "H"),
    59: Instruction("LOAD_FIELD_REF", "H"),
    64: Instruction("LOAD_STRING", "string"),
    65: Instruction("LOAD_S64", "q"),
    66: Instruction("LOAD_DOUBLE", "d"),
    67: Instruction("CAST_TO_S64"),
    68: Instruction("CAST_TO_S64", typed="DOUBLE"),
    69: Instruction("CAST_NOP"),
    70: Instruction("GET_CONTEXT_REF", "H"),
    76: Instruction("LOAD_STAR_GLOB_STRING", "string"),
    77: Instruction("EQ", typed="GLOB"),
    78: Instruction("NE", typed="GLOB"),
    79: Instruction("GET_CONTEXT_ROOT"),
    80: Instruction("GET_APP_CONTEXT_ROOT"),
    81: Instruction("GET_PAYLOAD_ROOT"),
    82: Instruction("GET_SYMBOL", "H"),
    84: Instruction("GET_INDEX", "H"),
    85: Instruction("GET_INDEX", "Q"),
    86: Instruction("LOAD_FIELD"),
    98: Instruction("UNARY_BIT_NOT"),
    99: Instruction("RETURN_S64"),
}
