# SPDX-License-Identifier: MIT
from __future__ import annotations

import logging
import os
import struct
import subprocess

import pytest

from sessiond import refusals as module
from sessiond.refusals import Refusals
from sessiond.sockets import Peer
from ustconsumer.protocol.application import Registration, parse_registration


def registration(pid: int) -> Registration:
    """Return what a process says of itself (facts, application protocol 2.1)."""
    numbers = (0xC57C57C5, 9, 0, pid, 77, 0, 0, 64, 8, 8, 8, 8, 8, 0)
    return parse_registration(struct.pack("<14I16s64x", *numbers, b"app"))


def test_it_is_told_as_long_as_it_lives(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals()
    with subprocess.Popen(["sleep", "600"]) as program:
        peer = Peer(program.pid, 5, 6)
        with caplog.at_level(logging.WARNING, "sessiond"):
            for reason in ("too old", "too new"):
                refusals.note(peer, registration(program.pid), reason)
        (info,) = refusals.living()
        assert (info.pid, info.ppid, info.uid, info.gid) == (program.pid, 77, 5, 6)
        assert (info.name, info.abi, info.bits) == ("app", "9.0", 64)
        assert (info.state, info.reason) == ("refused", "too new")
        # It tries again and again: one line for all.
        assert len(caplog.records) == 1
        program.kill()
    assert list(refusals.living()) == []


def test_what_it_claims_is_not_believed() -> None:
    refusals = Refusals()
    refusals.note(Peer(os.getpid(), 5, 6), registration(1), "no")
    (info,) = refusals.living()
    assert (info.pid, info.ppid) == (os.getpid(), 0)


def test_one_that_was_taken_after_all_is_forgotten() -> None:
    refusals = Refusals()
    refusals.note(Peer(os.getpid(), 5, 6), None, "no")
    refusals.forget(Peer(os.getpid(), 5, 6))
    assert list(refusals.living()) == []


def test_hidden_ones_are_told_apart_and_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = Refusals()
    for claimed in (10, 11, 11):
        refusals.note(Peer(0, 5, 6), registration(claimed), f"process {claimed}")
    assert [info.reason for info in refusals.living()] == ["process 10", "process 11"]
    monkeypatch.setattr(module, "_HIDDEN_SECONDS", 0.0)
    assert list(refusals.living()) == []


def test_they_are_bounded() -> None:
    refusals = Refusals()
    for number in range(1000):
        refusals.note(Peer(0, 5, 6), registration(number), "no")
    assert len(list(refusals.living())) == 256
