# SPDX-License-Identifier: MIT
"""Bytecode of filters and captures: taken apart and checked, not yet tied to a tracepoint."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ustconsumer.abi.bytecode import INSTRUCTIONS, MAX_BYTECODE

__all__ = ["Bytecode", "BytecodeError", "Step", "check"]

_OPERANDS = {code: struct.Struct(f"<{code}") for code in "HqdQ"}


class BytecodeError(Exception):
    """Bytes that are no bytecode, or none that may be run."""


class Step(NamedTuple):
    """An instruction.

    Attributes
    ----------
    at : int
        Its offset: what jumps and symbols refer to it by.
    operand : int, float, bytes, str or None
        Literals of text are bytes without their NUL; names are str.
    """

    at: int
    name: str
    typed: str
    operand: int | float | bytes | str | None


class Bytecode(NamedTuple):
    """Steps in order, and the offset behind the last one."""

    steps: tuple[Step, ...]
    end: int


def check(code: bytes, reloc_offset: int) -> Bytecode:
    """Take bytecode apart.

    Parameters
    ----------
    code : bytes
        Instructions, then from ``reloc_offset`` on the table of symbols.

    Raises
    ------
    BytecodeError
        It is too long, cut off, or has an instruction that is refused.
    """
    if len(code) > MAX_BYTECODE or not 0 <= reloc_offset <= len(code):
        raise BytecodeError(f"{len(code)} bytes with symbols from {reloc_offset} on")
    instructions, table = code[:reloc_offset], code[reloc_offset:]
    names = _names(table)
    steps: list[Step] = []
    at = 0
    while at < len(instructions):
        step, after = _step(instructions, at, table, names)
        steps.append(step)
        at = after
    starts = {step.at for step in steps}
    for offset in names:
        if offset not in starts:
            raise BytecodeError(f"a symbol for byte {offset}, where no instruction begins")
    return Bytecode(tuple(steps), at)


def _step(code: bytes, at: int, table: bytes, names: dict[int, str]) -> tuple[Step, int]:
    instruction = INSTRUCTIONS.get(code[at])
    if instruction is None:
        raise BytecodeError(f"instruction {code[at]} at byte {at} is refused")
    after = at + 1
    operand: int | float | bytes | str | None = None
    if instruction.operand == "string":
        end = code.find(b"\0", after)
        if end < 0:
            raise BytecodeError(f"text at byte {at} has no end")
        operand, after = code[after:end], end + 1
    elif instruction.operand:
        form = _OPERANDS[instruction.operand]
        if after + form.size > len(code):
            raise BytecodeError(f"instruction at byte {at} is cut off")
        (operand,) = form.unpack_from(code, after)
        after += form.size
    if instruction.name in ("LOAD_FIELD_REF", "GET_CONTEXT_REF"):
        if at not in names:
            raise BytecodeError(f"instruction at byte {at} has no symbol")
        operand = names[at]
    elif instruction.name == "GET_SYMBOL":
        assert isinstance(operand, int)
        end = table.find(b"\0", operand)
        if end < 0:
            raise BytecodeError(f"instruction at byte {at} has no symbol")
        operand = _text(table[operand:end])
    elif at in names:
        raise BytecodeError(f"a symbol for byte {at}, whose instruction takes none")
    return Step(at, instruction.name, instruction.typed, operand), after


def _names(table: bytes) -> dict[int, str]:
    """Return the symbols by the offset of their instruction."""
    names: dict[int, str] = {}
    at = 0
    while at < len(table):
        end = table.find(b"\0", at + 2)
        if end < 0:
            raise BytecodeError("a symbol has no end")
        names[int.from_bytes(table[at : at + 2], "little")] = _text(table[at + 2 : end])
        at = end + 1
    return names


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
