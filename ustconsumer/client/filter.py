# SPDX-License-Identifier: MIT
"""Filter expressions of ``enable-event --filter``, compiled to bytecode for applications.

The language is lttng's, and so is the bytecode, byte for byte: whatever runs it was tried
with nothing else. What lttng refuses is refused here too, and what would stop a program
with liblttng-ust: more values at a time than its interpreter has room for. So is what lttng
takes for something else than was written: numbers of more digits than it reads, the second
index of an element where that is no number, a comment without an end.

Unlike in C, ``& ^ |`` bind more tightly than comparisons. In text a backslash stands only
before ``*`` or another one; a ``*`` without is a pattern's.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from ustconsumer.abi.bytecode import INSTRUCTIONS, MAX_BYTECODE, MAX_DEPTH
from ustconsumer.client.filterwords import FilterError, Word, words

__all__ = ["FilterError", "FilterProgram", "compile_filter", "compile_reference"]

#: Parentheses within parentheses.
_MAX_NESTING = 64
_CODES = {
    (instruction.name, instruction.typed): number for number, instruction in INSTRUCTIONS.items()
}
_INDEX = 85
#: lttng cuts off the rest, and captures another element.
_MAX_CAPTURED_INDEX = (1 << 32) - 1
#: How tightly it binds, and its instruction. Arithmetic is part of the language, not of any tracer.
_BINARY = {
    "||": (1, "OR"),
    "&&": (2, "AND"),
    "==": (3, "EQ"),
    "!=": (3, "NE"),
    "<": (4, "LT"),
    ">": (4, "GT"),
    "<=": (4, "LE"),
    ">=": (4, "GE"),
    "|": (5, "BIT_OR"),
    "^": (6, "BIT_XOR"),
    "&": (7, "BIT_AND"),
    "<<": (8, "LSHIFT"),
    ">>": (8, "RSHIFT"),
    "+": (9, ""),
    "-": (9, ""),
    "*": (10, ""),
    "/": (10, ""),
    "%": (10, ""),
}
_LOGICAL = ("||", "&&")
_BITS = ("|", "^", "&", "<<", ">>")
_UNARY = {"-": "UNARY_MINUS", "!": "UNARY_NOT", "~": "UNARY_BIT_NOT", "+": ""}


class FilterProgram(NamedTuple):
    """Bytecode: instructions, and from ``reloc_offset`` on symbols."""

    code: bytes
    reloc_offset: int


def compile_filter(text: str) -> FilterProgram:
    """Return the bytecode of an expression.

    Raises
    ------
    FilterError
    """
    return _Compiler(words(text)).program()


def compile_reference(text: str) -> FilterProgram:
    """Return the bytecode that finds one field or context: ``name[3]``, ``$ctx.vpid``.

    Raises
    ------
    FilterError
    """
    return _Compiler(words(text)).reference()


# -- expressions -------------------------------------------------------------------------


class _Operand(NamedTuple):
    """What has just been compiled.

    Attributes
    ----------
    kind : str
        "number" (results of comparisons too), "real", "text", or "reference": a field or a
        context, of a type that only the application knows. Signs before do not change it.
    at : int
        Where it begins.
    stars : str
        Of text: "", "end" for one star at the end only, "any".
    """

    kind: str
    at: int
    stars: str = ""


class _Compiler:
    """Emits instructions while it reads: operands, then what is done with them."""

    def __init__(self, found: list[Word]):
        self._words = found
        self._next = 0
        self._code = bytearray()
        self._symbols = bytearray()
        self._nesting = 0
        self._depth = 0

    def program(self) -> FilterProgram:
        """Return the whole."""
        root = self._expression(1)
        word = self._words[self._next]
        if word.kind != "end":
            raise FilterError("an operator is missing", word.at + 1)
        if root.kind in ("text", "real"):
            what = "text" if root.kind == "text" else "a real number"
            raise FilterError(f"{what} is no condition: compare it with something", root.at + 1)
        self._emit("RETURN")
        return self._assembled()

    def _assembled(self) -> FilterProgram:
        whole = bytes(self._code + self._symbols)
        if len(whole) > MAX_BYTECODE:
            raise FilterError(f"too long: {len(whole)} bytes of {MAX_BYTECODE}", 1)
        return FilterProgram(whole, len(self._code))

    def reference(self) -> FilterProgram:
        """Return the program of an expression that is one field or context."""
        opened = []
        while self._takes("("):
            opened.append(self._words[self._next - 1])
        first = self._take()
        if first.kind != "name":
            raise FilterError("the name of a field or a context is wanted", first.at + 1)
        root, path = self._members(first)
        if len(path) > 1:
            raise FilterError("members of a field cannot be captured", first.at + 1)
        ((member, indexes),) = path
        if indexes and indexes[0] > _MAX_CAPTURED_INDEX:
            raise FilterError("no array has so many elements", first.at + 1)
        if root == "GET_APP_CONTEXT_ROOT" and not member.partition(":")[2]:
            raise FilterError("contexts of applications are $app.PROVIDER:NAME", first.at + 1)
        for opening in opened:
            if not self._takes(")"):
                raise FilterError("this parenthesis is never closed", opening.at + 1)
        word = self._words[self._next]
        if word.kind != "end":
            raise FilterError("one field or context, and nothing else, is wanted", word.at + 1)
        self._steps(first, root, path)
        self._emit("RETURN")
        return self._assembled()

    # -- reading -------------------------------------------------------------------------

    def _take(self) -> Word:
        word = self._words[self._next]
        self._next += 1
        return word

    def _takes(self, sign: str) -> bool:
        word = self._words[self._next]
        if word.kind != "sign" or word.value != sign:
            return False
        self._next += 1
        return True

    def _expression(self, least: int) -> _Operand:
        """Compile operators that bind at least so tightly, and their operands."""
        left = self._operand()
        while True:
            word = self._words[self._next]
            sign = str(word.value) if word.kind == "sign" else ""
            binds, name = _BINARY.get(sign, (0, ""))
            if binds < least or not binds:
                return left
            self._next += 1
            if not name:
                raise FilterError(f"{sign} is not supported: tracers do no arithmetic", word.at + 1)
            if sign in _LOGICAL:
                left = self._logical(word, name, binds, left)
            else:
                left = self._binary(word, name, left, self._expression(binds + 1))

    def _operand(self) -> _Operand:
        signs: list[Word] = []
        while self._words[self._next].kind == "sign" and self._words[self._next].value in _UNARY:
            signs.append(self._take())
        operand = self._primary()
        for sign in reversed(signs):
            if operand.kind == "text":
                raise FilterError(f"{sign.value!s} of text", sign.at + 1)
            if name := _UNARY[str(sign.value)]:
                self._emit(name)
        return operand._replace(at=signs[0].at) if signs else operand

    def _primary(self) -> _Operand:
        word = self._take()
        if word.kind == "name":
            return self._reference(word)
        if isinstance(word.value, bytes):
            return self._text(word, word.value)
        if word.kind == "number":
            assert isinstance(word.value, int)
            self._push("LOAD_S64", word, struct.pack("<Q", word.value))
            return _Operand("number", word.at)
        if word.kind == "real":
            self._push("LOAD_DOUBLE", word, struct.pack("<d", word.value))
            return _Operand("real", word.at)
        if word.value == "(":
            return self._parenthesis(word)
        what = "the expression ends" if word.kind == "end" else f"{word.value!s} stands"
        raise FilterError(f"{what} where a value is wanted", word.at + 1)

    def _parenthesis(self, opening: Word) -> _Operand:
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            raise FilterError(
                f"more than {_MAX_NESTING} parentheses within one another", opening.at + 1
            )
        inner = self._expression(1)
        if not self._takes(")"):
            raise FilterError("this parenthesis is never closed", opening.at + 1)
        self._nesting -= 1
        return inner

    def _text(self, word: Word, raw: bytes) -> _Operand:
        # Escapes are pairs of bytes. Where a star stands is looked at before ** becomes *.
        pieces = re.findall(rb"\\.|[^\\]", raw, re.DOTALL)
        stars = ""
        if b"*" in pieces:
            stars = "end" if pieces.index(b"*") == len(pieces) - 1 else "any"
        kept = [
            piece
            for number, piece in enumerate(pieces)
            if piece != b"*" or number == 0 or pieces[number - 1] != b"*"
        ]
        name = "LOAD_STAR_GLOB_STRING" if stars == "any" else "LOAD_STRING"
        self._push(name, word, b"".join(kept) + b"\0")
        return _Operand("text", word.at, stars)

    # -- fields and contexts -----------------------------------------------------------------

    def _reference(self, first: Word) -> _Operand:
        """Compile ``a.b[1]``, ``$ctx.a``, ``$app.provider:name``."""
        root, path = self._members(first)
        if any(indexes for _, indexes in path):
            self._steps(first, root, path)
            self._emit("LOAD_FIELD")
        else:
            joined = ".".join(member for member, _ in path)
            if root != "GET_PAYLOAD_ROOT":
                joined = f"{first.value!s}.{joined}"
            self._symbol(joined)
            loads = "LOAD_FIELD_REF" if root == "GET_PAYLOAD_ROOT" else "GET_CONTEXT_REF"
            self._push(loads, first, b"\xff\xff")
        return _Operand("reference", first.at)

    def _members(self, first: Word) -> tuple[str, list[tuple[str, list[int]]]]:
        """Read a reference: the instruction of its root, its members with their indexes."""
        name = str(first.value)
        path = [(name, self._indexes())]
        while self._takes(".") or self._takes("->"):
            member = self._take()
            if member.kind != "name":
                raise FilterError("the name of a member is wanted", member.at + 1)
            path.append((str(member.value), self._indexes()))
        root = "GET_PAYLOAD_ROOT"
        if name.startswith("$"):
            if name not in ("$ctx", "$app"):
                raise FilterError(
                    f"{name}: contexts are $ctx.NAME and $app.PROVIDER:NAME", first.at + 1
                )
            if len(path) == 1 or path[0][1]:
                raise FilterError(f"the name of a context is wanted behind {name}.", first.at + 1)
            root = "GET_CONTEXT_ROOT" if name == "$ctx" else "GET_APP_CONTEXT_ROOT"
            del path[0]
        return root, path

    def _indexes(self) -> list[int]:
        indexes: list[int] = []
        while self._takes("["):
            word = self._take()
            if word.kind != "number":
                raise FilterError("an index is a number", word.at + 1)
            assert isinstance(word.value, int)
            indexes.append(word.value)
            if not self._takes("]"):
                raise FilterError("] is missing", self._words[self._next].at + 1)
        return indexes

    def _steps(self, first: Word, root: str, path: list[tuple[str, list[int]]]) -> None:
        """Emit the way from a root to a member."""
        self._push(root, first)
        for member, indexes in path:
            symbol = self._symbol(member)
            self._emit("GET_SYMBOL", struct.pack("<H", symbol & 0xFFFF))
            # lttng goes no deeper; neither does a tracer.
            for index in indexes[:1]:
                self._code.append(_INDEX)
                self._code += struct.pack("<Q", index)

    def _symbol(self, name: str) -> int:
        """Note the name that the next instruction refers to; return where it is."""
        if len(self._code) >= MAX_BYTECODE:
            raise FilterError(f"too long: more than {MAX_BYTECODE} bytes", 1)
        self._symbols += struct.pack("<H", len(self._code))
        at = len(self._symbols)
        self._symbols += name.encode() + b"\0"
        return at

    # -- operators -----------------------------------------------------------------------

    def _logical(self, sign: Word, name: str, binds: int, left: _Operand) -> _Operand:
        self._cast(sign, left)
        at = len(self._code)
        self._emit(name, b"\xff\xff")
        self._depth -= 1
        self._cast(sign, self._expression(binds + 1))
        if len(self._code) >= MAX_BYTECODE:
            raise FilterError(f"too long: more than {MAX_BYTECODE} bytes", 1)
        struct.pack_into("<H", self._code, at + 1, len(self._code))
        return _Operand("number", left.at)

    def _cast(self, sign: Word, operand: _Operand) -> None:
        if operand.kind == "text":
            raise FilterError(f"{sign.value!s} of text: compare it with something", operand.at + 1)
        if operand.kind == "reference":
            self._emit("CAST_TO_S64")
        elif operand.kind == "real":
            self._code.append(_CODES["CAST_TO_S64", "DOUBLE"])

    def _binary(self, sign: Word, name: str, left: _Operand, right: _Operand) -> _Operand:
        kinds = {left.kind, right.kind}
        if sign.value in _BITS:
            if kinds & {"text", "real"}:
                raise FilterError(f"{sign.value!s} takes integers only", sign.at + 1)
        else:
            if "text" in kinds and kinds & {"number", "real"}:
                raise FilterError(f"{sign.value!s} of text and a number", sign.at + 1)
            if "any" in (left.stars, right.stars):
                if sign.value not in ("==", "!="):
                    raise FilterError(f"{sign.value!s} of a pattern: only == and !=", sign.at + 1)
                if left.stars and right.stars:
                    raise FilterError("two patterns are compared", sign.at + 1)
        self._emit(name)
        self._depth -= 1
        return _Operand("number", left.at)

    # -- instructions --------------------------------------------------------------------

    def _push(self, name: str, word: Word, operand: bytes = b"") -> None:
        """Emit what puts a value on the stack."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            # liblttng-ust 2.13 ends the program that it is part of.
            raise FilterError(
                f"more than {MAX_DEPTH} values wait for an operator: use fewer parentheses",
                word.at + 1,
            )
        self._emit(name, operand)

    def _emit(self, name: str, operand: bytes = b"") -> None:
        self._code.append(_CODES[name, ""])
        self._code += operand
