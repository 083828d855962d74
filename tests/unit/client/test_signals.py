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
from ustconsumer.errors import UsageError


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


@pytest.mark.parametrize("enabled", [True, False])
def test_a_request_is_noted_and_not_forwarded(enabled: bool) -> None:
    before = signal.getsignal(signal.SIGHUP)
    with CommandSignals(enabled, [signal.SIGHUP, signal.SIGUSR1]) as signals:
        assert signals.requested is not None
        child = signals.spawn("/bin/sleep", ["sleep", "600"], {})
        assert signals.take_requests() == []
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        assert select.select([signals.requested], [], [], 0)[0]
        # Each once: one snapshot has what both asked for.
        assert signals.take_requests() == [signal.SIGUSR1, signal.SIGHUP]
        assert signals.take_requests() == []
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        signals.ended()
    assert signal.getsignal(signal.SIGHUP) == before


def test_requests_beyond_counting_are_some_requests() -> None:
    with CommandSignals(False, [signal.SIGUSR1]) as signals:
        # More than a pipe holds.
        for _ in range(70_000):
            signals._note_request(signal.SIGUSR1, None)
        os.kill(os.getpid(), signal.SIGUSR1)
        while requests := signals.take_requests():
            assert requests == [signal.SIGUSR1]


def test_the_command_has_the_disposition_that_a_request_had() -> None:
    """``nohup drtrace record --snapshot-on HUP``: the command is protected all the same."""
    script = "kill -HUP $$; exit 7"
    for disposition, status in ((signal.SIG_IGN, 7), (signal.SIG_DFL, -signal.SIGHUP)):
        before = signal.signal(signal.SIGHUP, disposition)
        try:
            with CommandSignals(True, [signal.SIGHUP]) as signals:
                child = signals.spawn("/bin/sh", ["sh", "-c", script], {})
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status
                signals.ended()
                os.kill(os.getpid(), signal.SIGHUP)
                assert signals.take_requests() == [signal.SIGHUP]
        finally:
            signal.signal(signal.SIGHUP, before)


def test_a_thread_cannot_have_requests() -> None:
    refused: list[UsageError] = []

    def enter() -> None:
        try:
            with CommandSignals(False, [signal.SIGUSR1]):
                pass
        except UsageError as error:
            refused.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert len(refused) == 1
