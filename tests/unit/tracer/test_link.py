# SPDX-License-Identifier: MIT
"""When a place is tried again: a clock of our own, and a word in a file."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ustconsumer.tracer import link as module
from ustconsumer.tracer.link import Event, Link
from ustconsumer.tracer.rendezvous import Place


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def word(tmp_path: Path) -> Path:
    path = tmp_path / "word"
    path.write_bytes(bytes(4096))
    return path


def set_word(path: Path, value: int) -> None:
    with open(path, "r+b") as file:
        file.write(value.to_bytes(4, "little"))


def refuse(link: Link, clock: Clock) -> float | None:
    """Try it in vain; return in how many seconds it is due again."""
    assert link.due() == 0.0
    link.trying()
    link.failed(ConnectionRefusedError())
    return link.due()


def connect(link: Link) -> None:
    assert link.due() == 0.0
    link.trying()
    link.connected(cast("Any", object()))
    assert link.due() is None


def woken(link: Link, clock: Clock) -> None:
    """Connect a moment after its word was woken."""
    delay = link.due()
    assert delay is not None
    assert 0.01 <= delay <= 0.1
    clock.now += delay
    connect(link)


def test_first_attempt_whatever_the_word_says(clock: Clock, word: Path, tmp_path: Path) -> None:
    """A private registry does not touch the word."""
    assert refuse(Link(Place(str(tmp_path), str(word))), clock) is None
    assert refuse(Link(Place(str(tmp_path))), clock) is None


def test_word_decides_about_the_next(clock: Clock, word: Path, tmp_path: Path) -> None:
    link = Link(Place(str(tmp_path), str(word)))
    refuse(link, clock)
    assert link.settled.wait(0)
    clock.now += 1
    set_word(word, 1)
    woken(link, clock)


def test_registry_that_was_killed_leaves_its_word(clock: Clock, word: Path, tmp_path: Path) -> None:
    """Attempts become rare; whoever wakes the word ends the waiting."""
    set_word(word, 1)
    link = Link(Place(str(tmp_path), str(word)))
    delays = []
    for _ in range(8):
        delay = refuse(link, clock)
        assert delay is not None
        delays.append(delay)
        clock.now += delay
    assert delays == pytest.approx([0.1, 5, 10, 20, 40, 60, 60, 60])
    refuse(link, clock)
    clock.now += 2
    link.woken()
    woken(link, clock)


def test_whoever_wakes_all_the_time_does_not_keep_us_busy(
    clock: Clock, word: Path, tmp_path: Path
) -> None:
    set_word(word, 1)
    link = Link(Place(str(tmp_path), str(word)))
    refuse(link, clock)
    attempts = 0
    for _ in range(1000):
        clock.now += 0.001
        link.woken()
        if link.due() == 0.0:
            attempts += 1
            refuse(link, clock)
    assert 1 <= attempts <= 100


def test_registry_that_makes_mistakes(clock: Clock, word: Path, tmp_path: Path) -> None:
    """At once three times, although the word of a private one is 0; then no more."""
    link = Link(Place(str(tmp_path), str(word)))
    for _ in range(3):
        connect(link)
        link.failed(ValueError(), at_once=True)
        assert not link.settled.wait(0)
    connect(link)
    link.failed(ValueError(), at_once=True)
    assert link.settled.wait(0)
    assert link.due() is None
    set_word(word, 1)
    woken(link, clock)


def test_good_connections_make_forget_bad_ones(clock: Clock, word: Path, tmp_path: Path) -> None:
    set_word(word, 1)
    link = Link(Place(str(tmp_path), str(word)))
    for _ in range(4):
        delay = refuse(link, clock)
        assert delay is not None
        clock.now += delay
    connect(link)
    clock.now += 100
    link.failed(ConnectionResetError())
    assert link.due() == pytest.approx(0.1)


def test_queue_of_a_busy_registry(clock: Clock, tmp_path: Path) -> None:
    link = Link(Place(str(tmp_path)))
    began = clock.now
    while True:
        assert link.due() == 0.0
        link.trying()
        if not link.queue(3.0):
            break
        delay = link.due()
        assert delay is not None
        assert 0 < delay < 0.1
        assert not link.settled.wait(0)
        clock.now += delay
    assert clock.now - began == pytest.approx(3.0, abs=0.1)


def test_event() -> None:
    event = Event()
    assert not event.wait(0)
    waiting = [threading.Thread(target=event.wait, args=(None,)) for _ in range(3)]
    for thread in waiting:
        thread.start()
    event.set()
    event.set()
    for thread in waiting:
        thread.join()
    assert event.wait(0)
