# SPDX-License-Identifier: MIT
"""What is particular to these tests: many play a consumer that is killed."""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Iterator

import pytest

__all__: list[str] = []


@pytest.fixture(autouse=True)
def _descriptors_end_with_the_test() -> Iterator[None]:
    """Close the files that a test leaves open, as the kernel does when a consumer is killed.

    The suite opens more of them than a process may have, else. Pipes and sockets may be those
    of a library, which made them on first use and keeps them.
    """
    before = _files()
    yield
    # What has a finalizer closes its own.
    gc.collect()
    for fd in _files() - before:
        os.close(fd)


def _files() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            mode = os.fstat(int(name)).st_mode
        except OSError:
            continue  # that of the listing itself
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            found.add(int(name))
    return found
