# SPDX-License-Identifier: MIT
"""What compiled bytecode calls: arithmetic of 64 bits, and comparisons as liblttng-ust's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import AnyStr

__all__ = [
    "COMPARISONS",
    "SIGNED_BYTES",
    "Glob",
    "Literal",
    "bits",
    "dynamic",
    "integer",
    "order",
    "signed",
    "starred",
    "to_s64",
]

_MASK = (1 << 64) - 1
_HALF = 1 << 63
_STAR, _ESCAPED = -1, 256
#: For `bytes.translate`: signed bytes in the order of unsigned ones.
SIGNED_BYTES = bytes(byte ^ 0x80 for byte in range(256))


def signed(value: int) -> int:
    """Return the low 64 bits as a signed number."""
    value &= _MASK
    return value - (1 << 64) if value & _HALF else value


def to_s64(value: float) -> int:
    """Return a real number without its fraction; what does not fit is the least number."""
    if not -9.3e18 < value < 9.3e18:  # a NaN too
        return -_HALF
    whole = int(value)
    return whole if -_HALF <= whole < _HALF else -_HALF


def bits(operation: str, left: int, right: int) -> int:
    """Return the result of an operation on two words, as a signed number."""
    if operation in ("RSHIFT", "LSHIFT"):
        if not 0 <= right < 64:
            raise ValueError(f"a shift by {right}")
        return signed((left & _MASK) >> right if operation == "RSHIFT" else left << right)
    if operation == "BIT_AND":
        return signed(left & right)
    return signed(left | right if operation == "BIT_OR" else left ^ right)


COMPARISONS: dict[str, Callable[[object, object], bool]] = {
    "EQ": lambda left, right: left == right,
    "NE": lambda left, right: left != right,
    "GT": lambda left, right: left > right,  # type: ignore[operator]
    "LT": lambda left, right: left < right,  # type: ignore[operator]
    "GE": lambda left, right: left >= right,  # type: ignore[operator]
    "LE": lambda left, right: left <= right,  # type: ignore[operator]
}


class Literal:
    """Text of a filter: ``\\\\`` and ``\\*`` stand for a character, ``*`` for any rest.

    Attributes
    ----------
    plain : bytes or None
        The text itself, where it has no star, or one only at its end; else None.
    prefix : bool
        There is a star at its end.
    """

    def __init__(self, raw: bytes):
        self.tokens = list(_tokens(raw))
        self.prefix = self.tokens[-1:] == [_STAR]
        body = self.tokens[:-1] if self.prefix else self.tokens
        simple = all(0 <= token < 256 for token in body)
        self.plain = bytes(body) if simple else None


def starred(pieces: Sequence[AnyStr], text: AnyStr) -> bool:
    """Return whether text is these pieces in order, with any runs between them."""
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return text == first
    at, end = len(first), len(text) - len(last)
    if end < at or not text.startswith(first) or not text.endswith(last):
        return False
    for piece in pieces[1:-1]:
        # The first place is as good as any: what is left after it is longest.
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


class Glob:
    """A pattern with stars anywhere; a backslash escapes any character."""

    def __init__(self, raw: bytes):
        pieces = [bytearray()]
        for token in _tokens(raw):
            if token == _STAR:
                pieces.append(bytearray())
            else:
                # A backslash at the very end is a NUL then: no text has one.
                pieces[-1].append(token & 0xFF)
        self._pieces = [bytes(piece) for piece in pieces]

    def matches(self, text: bytes) -> bool:
        """Return whether text matches the whole pattern."""
        return starred(self._pieces, text)


def _tokens(raw: bytes) -> list[int]:
    tokens = []
    at = 0
    while at < len(raw):
        byte = raw[at]
        if byte == ord("*"):
            tokens.append(_STAR)
        elif byte == ord("\\"):
            at += 1
            following = raw[at] if at < len(raw) else 0
            # Any other escape is equal to nothing but the same one.
            tokens.append(
                following if following in b"\\*" and at < len(raw) else _ESCAPED | following
            )
        else:
            tokens.append(byte)
        at += 1
    return tokens


def order(left: bytes | Literal, right: bytes | Literal) -> int:
    """Return less than, equal to or more than 0, as text compares. Bytes are signed."""
    first = left.tokens if isinstance(left, Literal) else list(left)
    second = right.tokens if isinstance(right, Literal) else list(right)
    for at in range(max(len(first), len(second)) + 1):
        if at >= len(first):
            return 0 if at >= len(second) or second[at] == _STAR else -1
        if at >= len(second):
            return 0 if first[at] == _STAR else 1
        one, other = first[at], second[at]
        if _STAR in (one, other):
            return 0
        if (one ^ other) & _ESCAPED:
            return -1 if other & _ESCAPED else 1
        difference = _signed_byte(one) - _signed_byte(other)
        if difference:
            return difference
    return 0


def _signed_byte(token: int) -> int:
    byte = token & 0xFF
    return byte - 256 if byte > 127 else byte


def integer(value: object) -> int:
    """Return a value if it is an integer, as a signed one.

    Raises
    ------
    TypeError
        It is not: whatever was to be found out, the answer is no.
    """
    if isinstance(value, int):
        return signed(value)
    raise TypeError(f"{value!r} is not an integer")


def dynamic(operation: str, left: object, right: object) -> object:
    """Apply an operation to values whose types are known only now.

    Raises
    ------
    TypeError
        Not to these.
    """
    if operation in COMPARISONS:
        return _compare(operation, left, right)
    return bits(operation, integer(left), integer(right))


def _compare(operation: str, left: object, right: object) -> bool:
    for pattern, text in ((left, right), (right, left)):
        if isinstance(pattern, Glob):
            if operation not in ("EQ", "NE") or not isinstance(text, bytes):
                raise TypeError(f"{operation} of a pattern and {text!r}")
            return pattern.matches(text) == (operation == "EQ")
    if isinstance(left, bytes | Literal) and isinstance(right, bytes | Literal):
        return COMPARISONS[operation](order(left, right), 0)
    numbers = [_number(value) for value in (left, right)]
    if any(isinstance(number, float) for number in numbers):
        return COMPARISONS[operation](*map(float, numbers))
    return COMPARISONS[operation](*numbers)


def _number(value: object) -> int | float:
    if isinstance(value, float):
        return value
    return integer(value)
