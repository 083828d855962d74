# SPDX-License-Identifier: MIT
"""What is particular to these tests: many play a consumer that is killed."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

__all__: list[str] = []


@pytest.fixture(autouse=True)
def _descriptors_end_with_the_test() -> Iterator[None]:
    """Close what a test leaves open, as the kernel does when a consumer is killed.

    The suite opens more files than a process may have, else.
    """
    before = _descriptors()
    yield
    # What has a finalizer closes its own.
    gc.collect()
    for fd in _descriptors() - before:
        os.close(fd)


def _descriptors() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:
            continue  # that of the listing itself
        found.add(int(name))
    return found
