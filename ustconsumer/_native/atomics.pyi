# SPDX-License-Identifier: MIT
from collections.abc import Sequence

from typing_extensions import Buffer

__all__ = [
    "cas_u64",
    "fence",
    "fetch_add_u64",
    "futex_wait_any",
    "futex_wake",
    "load_u32",
    "load_u64",
    "store_u32",
    "store_u64",
]

def load_u64(buffer: Buffer, offset: int) -> int: ...
def load_u32(buffer: Buffer, offset: int) -> int: ...
def store_u64(buffer: Buffer, offset: int, value: int) -> None: ...
def store_u32(buffer: Buffer, offset: int, value: int) -> None: ...
def cas_u64(buffer: Buffer, offset: int, expected: int, desired: int) -> int: ...
def fetch_add_u64(buffer: Buffer, offset: int, delta: int) -> int: ...
def fence() -> None: ...
def futex_wake(buffer: Buffer, offset: int, count: int) -> int: ...
def futex_wait_any(words: Sequence[tuple[Buffer, int, int]], timeout_ns: int = -1) -> int:
    """Sleep, without the GIL, until one of up to eight 32-bit words is woken.

    Parameters
    ----------
    words : sequence of (buffer, offset, expected)
        Read-only buffers are fine. Woken by a shared wake (`futex_wake`), of any process.
    timeout_ns : int
        Negative: none.

    Returns
    -------
    int
        Position of the woken word; -1 if a word does not hold what was expected, the time
        is over, or a signal came.

    Raises
    ------
    OSError
        ENOSYS before Linux 5.16; EPERM where a sandbox forbids it; EFAULT for a word that
        lies behind the end of its file.
    """
