# SPDX-License-Identifier: MIT
"""Words of filter expressions."""

from __future__ import annotations

import re
from typing import NamedTuple

from ustconsumer.abi.bytecode import MAX_BYTECODE
from ustconsumer.errors import UsageError

__all__ = ["FilterError", "Word", "words"]

#: Characters of an expression.
_MAX_TEXT = MAX_BYTECODE
_MASK = (1 << 64) - 1

_SUFFIX = r"(?:(?:ll|LL|[lL])[uU]|[uU]?(?:ll|LL|[lL])|[uU])?"
_EXPONENT, _POWER = r"[Ee][+-]?[0-9]+", r"[Pp][+-]?[0-9]+"
_HEX = r"[0-9a-fA-F]"
_LETTER = rf"[A-Za-z_:]|\\u{_HEX}{{4}}|\\U{_HEX}{{8}}"
_IDENTIFIER = rf"(?:{_LETTER})(?:{_LETTER}|[0-9])*"
_SPACE = re.compile(r"(?:[ \t\n]+|/\*.*?\*/|//[^\n]*)+", re.DOTALL)
_TEXT = re.compile(r"L?([\"'])")
_NAME = re.compile(rf"\$?{_IDENTIFIER}")
_SIGN = re.compile(r"->|<<|>>|[=!<>]=|&&|\|\||[][().<>!~^&|+\-*/%]")
#: Base, and how many digits of a number lttng reads: the others change nothing.
_BASES = {"hex": (16, 17), "octal": (8, 23), "decimal": (10, 20)}
#: The longest one counts, of equally long ones the first.
_NUMBERS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("hex", rf"0[xX]{_HEX}+{_SUFFIX}"),
        ("octal", rf"0[0-7]*{_SUFFIX}"),
        ("decimal", rf"[1-9][0-9]*{_SUFFIX}"),
        ("real", rf"[0-9]+{_EXPONENT}[fFlL]?"),
        ("real", rf"[0-9]*\.[0-9]+(?:{_EXPONENT})?[fFlL]?"),
        ("real", rf"[0-9]+\.[0-9]*(?:{_EXPONENT})?[fFlL]?"),
        ("hexreal", rf"0[xX]{_HEX}+{_POWER}[fFlL]?"),
        ("hexreal", rf"0[xX]{_HEX}*\.{_HEX}+(?:{_POWER})?[fFlL]?"),
        ("hexreal", rf"0[xX]{_HEX}+\.{_HEX}*(?:{_POWER})?[fFlL]?"),
    )
)


class FilterError(UsageError):
    """An expression that is none, or that no tracer takes.

    Attributes
    ----------
    what : str
        What is wrong.
    column : int
        Where in the text, from 1 on.
    """

    def __init__(self, what: str, column: int):
        super().__init__(f"filter, column {column}: {what}")
        self.what = what
        self.column = column


class Word(NamedTuple):
    """``kind``: "sign", "name", "text", "number", "real", or "end"; ``at`` its place."""

    kind: str
    at: int
    value: str | bytes | int | float = ""


def words(text: str) -> list[Word]:
    """Return the words of an expression, and "end" at last.

    Raises
    ------
    FilterError
    """
    if len(text) > _MAX_TEXT:
        raise FilterError(f"an expression has at most {_MAX_TEXT} characters", _MAX_TEXT + 1)
    for at, character in enumerate(text):
        # It is shown in lists.
        if not character.isprintable() and character not in "\t\n":
            raise FilterError(f"the character {character!r} cannot be printed", at + 1)
    found: list[Word] = []
    at = 0
    while True:
        if space := _SPACE.match(text, at):
            at = space.end()
        if at == len(text):
            break
        word, at = _word(text, at)
        found.append(word)
    return [*found, Word("end", at)]


def _word(text: str, at: int) -> tuple[Word, int]:
    if quote := _TEXT.match(text, at):
        end = text.find(quote[1], quote.end())
        if end < 0:
            raise FilterError("text without its closing quote", at + 1)
        literal = text[quote.end() : end]
        if not literal and quote[1] == "'":
            raise FilterError('nothing between quotes: use "" for empty text', at + 1)
        return Word("text", at, _literal(literal, quote.end())), end + 1
    name = _NAME.match(text, at)
    # A single one is a sign of lttng's that nothing is made of.
    if name and name[0] != ":":
        return Word("name", at, name[0]), name.end()
    numbers = [(kind, match) for kind, form in _NUMBERS if (match := form.match(text, at))]
    if numbers:
        kind, match = max(numbers, key=lambda number: number[1].end())
        return _number(kind, match[0], at), match.end()
    if text.startswith("/*", at):
        raise FilterError("a comment without its end", at + 1)
    if sign := _SIGN.match(text, at):
        return Word("sign", at, sign[0]), sign.end()
    raise FilterError(f"{text[at]!r} has no meaning here", at + 1)


def _literal(text: str, at: int) -> bytes:
    """Return the bytes of a text, the first of whose characters is at ``at``."""
    place = 0
    while place < len(text):
        if text[place] == "\\":
            place += 1
            if text[place : place + 1] not in ("\\", "*"):
                raise FilterError(
                    "a backslash stands only before * or another backslash: write \\\\ for one",
                    at + place,
                )
        place += 1
    # lttng leaves out line breaks.
    return text.replace("\n", "").encode()


def _number(kind: str, text: str, at: int) -> Word:
    if kind == "real":
        return Word("real", at, float(text.rstrip("fFlL")))
    if kind == "hexreal":
        bare = text.rstrip("fFlL") if "p" in text.lower() else text.rstrip("lL")
        try:
            return Word("real", at, float.fromhex(bare))
        except OverflowError:
            return Word("real", at, float("inf"))
    bare = text.rstrip("uUlL")
    # lttng reads neither.
    if text.startswith("0X"):
        raise FilterError(f"write 0x instead of 0X: {text!r}", at + 1)
    if bare == "0" and bare != text:
        raise FilterError(f"write 0 without a suffix: {text!r}", at + 1)
    base, most = _BASES[kind]
    digits = bare.removeprefix("0x")
    # Python would not read thousands of digits; so many are too much in any case.
    value = _MASK
    if kind != "decimal" or len(digits) <= len(str(_MASK)):
        value = min(int(digits, base), _MASK)
    if min(int(digits[:most], base), _MASK) != value:
        raise FilterError(
            f"lttng reads no more than the first {most} digits, another number: write fewer",
            at + 1,
        )
    return Word("number", at, value)
