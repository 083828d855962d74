# SPDX-License-Identifier: MIT
"""Waiting for several words."""

from __future__ import annotations

import mmap
import threading

import pytest
from helpers.registry import until

from ustconsumer._native import atomics


def test_which_was_woken() -> None:
    shared, private = mmap.mmap(-1, 4096), bytearray(8)
    woken: list[int] = []

    def wait() -> None:
        woken.append(atomics.futex_wait_any([(shared, 64, 0), (private, 4, 0)]))

    def wake(buffer: mmap.mmap | bytearray, offset: int) -> None:
        thread = threading.Thread(target=wait)
        thread.start()
        # Python's threads go on meanwhile: the GIL is not held.
        until(lambda: atomics.futex_wake(buffer, offset, 1) == 1, "it sleeps")
        thread.join()

    wake(shared, 64)
    wake(private, 4)
    assert woken == [0, 1]
    shared.close()


def test_word_that_is_another_already() -> None:
    assert atomics.futex_wait_any([(bytearray(4), 0, 0), (bytearray(4), 0, 1)]) == -1


def test_timeout() -> None:
    assert atomics.futex_wait_any([(bytearray(4), 0, 0)], 1_000_000) == -1
    assert atomics.futex_wait_any([(bytearray(4), 0, 0)], 0) == -1


def test_buffers_are_let_go_of() -> None:
    memory = mmap.mmap(-1, 4096)
    atomics.futex_wait_any([(memory, 0, 1), (memory, 4, 0)])
    with pytest.raises(IndexError):
        atomics.futex_wait_any([(memory, 0, 0), (memory, 4094, 0)])
    memory.close()


@pytest.mark.parametrize("count", [0, 9])
def test_number_of_words(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} words"):
        atomics.futex_wait_any([(bytearray(4), 0, 0)] * count)
