# SPDX-License-Identifier: MIT
"""Messages with damage: of bits, numbers, names and lengths; the same each time for a seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

__all__ = ["Mutator"]

_NUMBERS = (0, 1, 2, 7, 127, 255, 4096, 65535, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 40)
_LARGE = (*_NUMBERS, 1 << 63, (1 << 63) - 1, (1 << 64) - 1)


class Mutator:
    """Damages messages.

    Parameters
    ----------
    seed : str
    names : sequence of bytes
        Put where names may be.
    """

    def __init__(self, seed: str, names: Sequence[bytes]) -> None:
        self.random = random.Random(seed)  # noqa: S311 (the same each time)
        self._names = names

    def message(self, raw: bytes, header: int) -> bytes:
        """Return a message with some damage; the length in its header may be right again.

        Parameters
        ----------
        raw : bytes
            With the header.
        header : int
            Bytes of it that say something else than the payload's length.
        """
        choose = self.random
        damaged = bytearray(raw)
        for _ in range(choose.choice((1, 1, 1, 2, 4))):
            # Most of the damage is where it is not found at once.
            first = 0 if choose.random() < 0.15 else min(header, len(damaged))
            choose.choice((self._flip, self._number, self._word, self._cut, self._name))(
                damaged, first
            )
        return bytes(damaged)

    def script(self, messages: Sequence[bytes], header: int) -> list[bytes]:
        """Return messages of which some are damaged, missing, twice or elsewhere."""
        choose = self.random
        script = list(messages)
        for _ in range(choose.choice((1, 1, 1, 2, 3))):
            at = choose.randrange(len(script))
            kind = choose.randrange(10)
            if kind < 7:
                script[at] = self.message(script[at], header)
            elif kind == 7:
                script.insert(choose.randrange(len(script) + 1), script[at])
            elif kind == 8 and len(script) > 1:
                del script[at]
            else:
                other = choose.randrange(len(script))
                script[at], script[other] = script[other], script[at]
        return script

    def _flip(self, raw: bytearray, first: int) -> None:
        if first < len(raw):
            raw[self.random.randrange(first, len(raw))] ^= 1 << self.random.randrange(8)

    def _number(self, raw: bytearray, first: int) -> None:
        """Write over a number of 32 bits where one may be."""
        at = first + self.random.randrange(max(1, len(raw) - first)) // 4 * 4
        raw[at : at + 4] = struct.pack(">I", self.random.choice(_NUMBERS) & 0xFFFFFFFF)

    def _word(self, raw: bytearray, first: int) -> None:
        """Write over a number of 64 bits where one may be."""
        at = first + self.random.randrange(max(1, len(raw) - first)) // 4 * 4
        raw[at : at + 8] = struct.pack(">Q", self.random.choice(_LARGE))

    def _cut(self, raw: bytearray, first: int) -> None:
        """Take bytes out, put others in, or take the end off."""
        at = self.random.randrange(first, len(raw) + 1)
        kind = self.random.randrange(3)
        if kind == 0:
            del raw[at : at + self.random.choice((1, 4, 8, 100))]
        elif kind == 1:
            raw[at:at] = self.random.randbytes(self.random.choice((1, 4, 8, 300)))
        else:
            del raw[at:]

    def _name(self, raw: bytearray, first: int) -> None:
        """Put a name in the place of another, or anywhere."""
        name = self.random.choice(self._names) + b"\0"
        at = self.random.randrange(first, len(raw) + 1)
        raw[at : at + self.random.choice((0, len(name)))] = name
