# SPDX-License-Identifier: MIT
"""A process of its own for each test, and a registry that records it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from helpers.tracing import FakeRegistry, registry

from ustconsumer.tracer import provider
from ustconsumer.tracer.process import Process


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def daemon(process: Process) -> Iterator[FakeRegistry]:
    before = set(os.listdir("/proc/self/fd"))
    with registry(process) as made:
        yield made
    # Each descriptor that the registry sent was closed, whatever became of it.
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def program(process: Process, monkeypatch: pytest.MonkeyPatch) -> Process:
    """What providers declare in; it looks for no registry."""
    monkeypatch.setattr(process, "start", lambda: None)
    monkeypatch.setattr(provider, "process", process)
    return process


@pytest.fixture
def recorder(program: Process, daemon: FakeRegistry) -> FakeRegistry:
    """A registry that records what providers declare."""
    return daemon
