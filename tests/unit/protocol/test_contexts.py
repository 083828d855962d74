# SPDX-License-Identifier: MIT
"""Names of contexts, and the commands they become: bytes of `lttng add-context`."""

from __future__ import annotations

import struct

import pytest

from ustconsumer.abi.application import CONTEXTS
from ustconsumer.errors import UsageError
from ustconsumer.protocol.application import context
from ustconsumer.protocol.contexts import CONTEXT_NAMES, Context, parse_context


def payload(name: str) -> tuple[bytes, bytes]:
    """Return the payload of the command, and what follows it."""
    first, *rest = context(4, parse_context(name)).steps
    return first.data[40:], b"".join(step.data for step in rest)


@pytest.mark.parametrize("name", CONTEXTS)
def test_plain_ones(name: str) -> None:
    head, more = payload(name)
    assert head == struct.pack("<i", CONTEXTS[name]).ljust(len(head), b"\0")
    assert not more


@pytest.mark.parametrize(
    ("name", "kind", "config", "field"),
    [
        # perf_event.h: PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK
        ("perf:thread:task-clock", 1, 1, b"perf_thread_task_clock"),
        ("perf:thread:cycles", 0, 0, b"perf_thread_cycles"),
        ("perf:thread:cpu-cycles", 0, 0, b"perf_thread_cpu_cycles"),
        # PERF_TYPE_HW_CACHE: cache | operation << 8 | result << 16
        ("perf:thread:LLC-store-misses", 3, 2 | 1 << 8 | 1 << 16, b"perf_thread_LLC_store_misses"),
        ("perf:thread:L1-icache-prefetches", 3, 1 | 2 << 8, b"perf_thread_L1_icache_prefetches"),
        # Captured from lttng 2.13.9.
        ("perf:thread:raw:r0110:mine", 4, 272, b"perf_thread_raw_r0110_mine"),
    ],
)
def test_counters(name: str, kind: int, config: int, field: bytes) -> None:
    head, more = payload(name)
    wanted = struct.pack("<i16xIQ256s", 5, kind, config, field)
    assert head == wanted.ljust(len(head), b"\0")
    assert not more


def test_of_applications() -> None:
    head, more = payload("$app.myprov:myctx")
    assert head == struct.pack("<i16xII", 7, 7, 6).ljust(len(head), b"\0")
    assert more == b"myprov\0myctx\0"
    assert parse_context("$app.a:b:c") == Context("$app.a:b:c", 7, None, "a", "b:c")


@pytest.mark.peers("lttng")
def test_the_names_are_those_of_lttng() -> None:
    import subprocess

    result = subprocess.run(
        ["lttng", "add-context", "--list"], capture_output=True, text=True, check=True
    )
    theirs = set(result.stdout.split())
    assert {name for name in theirs if name.startswith("perf:thread:")} <= set(CONTEXT_NAMES)
    assert set(CONTEXT_NAMES) - theirs == {"cpu_id"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("weather", "unknown context 'weather'"),
        ("", "unknown context ''"),
        ("perf:cpu:cycles", "perf:thread:COUNTER"),
        ("perf:thread:weather", "unknown counter"),
        ("perf:thread:raw:rxyz:a", "in hexadecimal"),
        ("perf:thread:raw:r1:", "in hexadecimal"),
        ("perf:thread:raw:r11112222333344445:a", "in hexadecimal"),
        (f"perf:thread:raw:r1:{'x' * 256}", "too long"),
        ("$app.a", "PROVIDER:NAME"),
        ("$app.:a", "PROVIDER:NAME"),
        ("$app.a:", "PROVIDER:NAME"),
        ("$app.a:b\0", "PROVIDER:NAME"),
        (f"$app.a:{'x' * 256}", "too long"),
    ],
)
def test_what_is_none(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason.replace("$", r"\$")):
        parse_context(name)
