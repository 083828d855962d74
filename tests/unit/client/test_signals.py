# SPDX-License-Identifier: MIT
"""Signals that come at the worst moment."""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import Any

import pytest

from ustconsumer.client import signals as module
from ustconsumer.client.signals import CommandSignals


def test_a_signal_between_the_start_and_its_return_reaches_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spawn = module._spawn

    def interrupted(*arguments: Any) -> int:
        child = spawn(*arguments)
        # To this thread: `drtrace` has no other, but whoever runs the tests may.
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        return child

    monkeypatch.setattr(module, "_spawn", interrupted)
    with CommandSignals(True) as signals:
        child = signals.spawn("/bin/sleep", ["sleep", "600"], {})
        _, status = os.waitpid(child, 0)
        signals.ended()
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM


def test_a_signal_before_the_command_runs_unwinds_once() -> None:
    with CommandSignals(True):
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), signal.SIGHUP)
        # What unwinds must not be interrupted in turn.
        os.kill(os.getpid(), signal.SIGHUP)
    assert ended.value.code == 128 + signal.SIGHUP


def test_a_library_leaves_its_users_handlers_alone() -> None:
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    before = [signal.getsignal(number) for number in numbers]
    with CommandSignals(False) as signals:
        child = signals.spawn("/bin/true", ["true"], {})
        assert [signal.getsignal(number) for number in numbers] == before
        os.waitpid(child, 0)
        signals.ended()
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_after_the_command_ends_the_waiting_for_others(number: signal.Signals) -> None:
    with CommandSignals(True) as signals:
        child = signals.spawn("/bin/true", ["true"], {})
        os.waitpid(child, 0)
        signals.ended()
        with signals.linger():
            assert not select.select([signals.enough], [], [], 0)[0]
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            assert select.select([signals.enough], [], [], 0)[0]
        # What follows is bounded, and not interrupted.
        os.kill(os.getpid(), number)


def test_what_was_ignored_from_the_start_is_ignored_while_others_are_waited_for() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with CommandSignals(True) as signals:
            child = signals.spawn("/bin/true", ["true"], {})
            os.waitpid(child, 0)
            signals.ended()
            with signals.linger():
                os.kill(os.getpid(), signal.SIGINT)
                assert not select.select([signals.enough], [], [], 0)[0]
    finally:
        signal.signal(signal.SIGINT, before)
