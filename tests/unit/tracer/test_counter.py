# SPDX-License-Identifier: MIT
"""Counters: their events, and their value whether recorded or not."""

from __future__ import annotations

import os
import threading

import pytest
from helpers.tracing import FakeRegistry

from ustconsumer.tracer import Provider
from ustconsumer.tracer.process import Process


def test_events_have_value_and_difference(recorder: FakeRegistry) -> None:
    _, made = recorder.recording()
    length = Provider("shop").counter("queue_length")
    length.add()
    length.add(4)
    length.set(-2)
    length.add(-1)
    assert length.value == -3
    assert recorder.values(made) == [
        ("shop:queue_length", {"value": value, "delta": delta})
        for value, delta in ((1, 1), (5, 4), (-2, -7), (-3, -1))
    ]


def test_it_counts_while_nobody_records(program: Process) -> None:
    length = Provider("shop").counter("queue_length", level="info")
    assert not length.enabled
    length.add(3)
    assert length.value == 3
    assert program.declared["shop:queue_length"].loglevel == 6


def test_what_does_not_fit_is_not_counted(recorder: FakeRegistry) -> None:
    recorder.recording()
    length = Provider("shop").counter("queue_length")
    length.set((1 << 63) - 1)
    with pytest.raises(OverflowError, match="shop:queue_length: field 'value'"):
        length.add()
    assert length.value == (1 << 63) - 1


def test_threads_count_together(recorder: FakeRegistry) -> None:
    _, made = recorder.recording(subbuf_size=1 << 20)
    length = Provider("shop").counter("queue_length")

    def count() -> None:
        for _ in range(1000):
            length.add(2)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert length.value == 8000
    values = [fields["value"] for _, fields in recorder.values(made)]
    assert values == list(range(2, 8001, 2))


def test_one_thread_at_a_time(program: Process) -> None:
    length = Provider("shop").counter("queue_length")
    threads = [
        threading.Thread(target=length.add, args=(2,)),
        threading.Thread(target=length.set, args=(2,)),
    ]
    for thread in threads:
        with length._lock:
            thread.start()
            thread.join(0.1)
            assert thread.is_alive()
        thread.join()
    assert length.value == 2


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_counts_though_another_thread_was_counting(program: Process) -> None:
    length = Provider("shop").counter("queue_length")
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with length._lock:
            held.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        length.add()
        os._exit(length.value)
    over.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
