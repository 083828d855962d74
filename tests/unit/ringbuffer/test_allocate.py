# SPDX-License-Identifier: MIT
"""The contents are compared with the C library's in ``tests/property/test_ring_twin.py``."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.errors import RingBufferError, UsageError
from ustconsumer.ringbuffer.allocate import create_memory, initialise
from ustconsumer.ringbuffer.geometry import Geometry

LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
GEOMETRY = Geometry(LAYOUT, 8192, 4)


@pytest.fixture
def memory() -> Iterator[int]:
    fd = create_memory(GEOMETRY, "test stream")
    yield fd
    os.close(fd)


def test_memory_is_private_allocated_and_sealed(memory: int) -> None:
    status = os.fstat(memory)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_size == 45440
    assert status.st_blocks * 512 >= status.st_size
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    assert fcntl.fcntl(memory, fcntl.F_GET_SEALS) & seals == seals
    assert not os.get_inheritable(memory)
    for length in (0, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(memory, length)


def test_memory_is_still_writable(memory: int) -> None:
    """Writers need the pages: no seal against writing."""
    assert os.pwrite(memory, b"x", 100) == 1


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [("RLIMIT_FSIZE", 4096, "File too large"), ("RLIMIT_NOFILE", 3, "Too many open files")],
)
def test_a_limit_is_an_error_and_leaks_nothing(limit: str, value: int, reason: str) -> None:
    code = f"""
import os, resource, sys
from ustconsumer.abi.ring import RING_LAYOUTS
from ustconsumer.errors import RingBufferError
from ustconsumer.ringbuffer import allocate
from ustconsumer.ringbuffer.geometry import Geometry

allocate._available = lambda: 1 << 40  # reading it takes a descriptor too
geometry = Geometry(RING_LAYOUTS["ust-9-x86_64"], 8192, 4)
first = os.dup(0); os.close(first)
resource.setrlimit(resource.{limit}, ({value}, {value}))
try:
    allocate.create_memory(geometry, "stream 0")
except RingBufferError as error:
    print(error)
if "{limit}" == "RLIMIT_FSIZE":
    assert os.dup(0) == first
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"cannot allocate 45440 bytes for stream 0: {reason}\n"


def test_more_than_there_is_is_refused_at_once() -> None:
    huge = Geometry(LAYOUT, 1 << 42, 8)
    with pytest.raises(RingBufferError, match=r"cannot allocate \d+ bytes for huge: \d+ are avail"):
        create_memory(huge, "huge")


def test_initialise_needs_the_whole_memory() -> None:
    with pytest.raises(UsageError):
        initialise(
            bytearray(GEOMETRY.file_size - 1),
            GEOMETRY,
            stream_nr=0,
            cpu=0,
            channel_id=0,
            uuid=bytes(16),
            now=0,
            active_readers=1,
        )
