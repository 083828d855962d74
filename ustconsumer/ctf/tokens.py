# SPDX-License-Identifier: MIT
"""Words of a metadata text (TSDL), each with its place."""

from __future__ import annotations

import re
from typing import NamedTuple

from ustconsumer.errors import DecodeError

__all__ = ["INTEGER", "MARK", "STRING", "WORD", "Place", "Token", "tokens"]

WORD = "word"
INTEGER = "integer"
STRING = "string"
#: Brackets, operators, separators.
MARK = "mark"
_CUT = "cut"
_OTHER = "other"

# No possessive quantifiers: groups with one do not go back in Python 3.11.0 to 3.11.4. Nothing
# is tried twice without them either: after what is skipped, something always matches.
_TOKEN = re.compile(
    r"""
    (?: [ \t\r\n]+ | /\*[^*]*\*+(?:[^/*][^*]*\*+)*/ | //[^\n]*\n )*
    (?:
        (?P<word> [A-Za-z_][A-Za-z0-9_]* )
        | (?P<mark> := | \.\.\. | [][{}()<>;:=,.+-] )
        | (?P<integer> (?: 0[xX][0-9A-Fa-f]+ | [0-9]+ ) (?:[uU]?[lL]{0,2} | [lL]{1,2}[uU]) (?!\w) )
        | "(?P<string> [^"\\]* (?: \\. [^"\\]* )* )"
        | (?P<cut> " | /[/*] | /?\Z | 0[xX]\Z )
        | (?P<other> . )
    )
    """,
    re.VERBOSE | re.DOTALL,
)

_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_ESCAPED = {
    **{char: char for char in b"\\'\"?"},
    **dict(zip(b"abefnrtv", b"\a\b\x1b\f\n\r\t\v", strict=True)),
}


class Token(NamedTuple):
    """A word of the text and where it begins in there."""

    kind: str
    text: str
    at: int

    def integer(self) -> int:
        """Return the value of an `INTEGER`, written in base 10, 16, or 8 with a leading 0.

        Raises
        ------
        ValueError
            An 8 or 9 in an octal number.
        """
        digits = self.text.rstrip("uUlL")
        if digits[:2] in ("0x", "0X"):
            return int(digits, 16)
        return int(digits, 8 if digits[0] == "0" else 10)

    def string(self) -> str:
        """Return the value of a `STRING`: its escapes are bytes."""
        if "\\" not in self.text:
            return self.text
        raw = self.text.encode("utf-8", "surrogateescape")
        return _ESCAPE.sub(_unescape, raw).decode("utf-8", "surrogateescape")


def _unescape(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, char = match.groups()
    if octal:
        return bytes([int(octal, 8) & 0xFF])
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    return bytes([_ESCAPED.get(char[0], char[0])])


class Place(NamedTuple):
    """Where a text begins in a larger one."""

    line: int = 1
    column: int = 1

    def after(self, text: str) -> Place:
        """Return where a text ends that begins here."""
        lines = text.count("\n")
        if not lines:
            return Place(self.line, self.column + len(text))
        return Place(self.line + lines, len(text) - text.rindex("\n"))

    def error(self, reason: str) -> DecodeError:
        return DecodeError(f"metadata, line {self.line}, column {self.column}: {reason}")


def tokens(text: str, place: Place = Place()) -> list[Token]:  # noqa: B008 (immutable)
    """Return the tokens up to the end of the text, or to a comment or string cut off there.

    Parameters
    ----------
    text : str
    place : Place
        Where it begins, for errors.

    Raises
    ------
    DecodeError
        A character that belongs to no token.
    """
    result: list[Token] = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or _CUT
        if kind == _CUT:
            break
        at = match.start(kind)
        if kind == _OTHER:
            raise place.after(text[:at]).error(f"{text[at : at + 10]!r} is no word of TSDL")
        result.append(Token(kind, match[kind], at))
    return result
