# SPDX-License-Identifier: MIT
"""Sleeping on words: woken by a registry, by a change before it slept, by our own alarm."""

from __future__ import annotations

import mmap
import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.registry import until

from ustconsumer._native import atomics
from ustconsumer.tracer.inotify import Watch
from ustconsumer.tracer.rendezvous import WaitWord
from ustconsumer.tracer.waiting import Alarm, Words


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    alarm = Alarm()
    yield alarm
    alarm.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[WaitWord]]:
    pair = [WaitWord(str(tmp_path / name), everybody=False) for name in ("a", "b")]
    yield pair
    for word in pair:
        word.close()


@pytest.fixture(params=["together", "watching", "blind"])
def words(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Words]:
    """Give each way of waiting."""
    words = Words()
    words.together = request.param == "together"
    if request.param == "blind":
        monkeypatch.setattr("ustconsumer.tracer.inotify._BLIND_PAUSE", 0.01)
        monkeypatch.setattr("ustconsumer.tracer.inotify.Watch.follow", lambda self, paths: None)
        monkeypatch.setattr("os.O_NONBLOCK", 1 << 30)  # inotify_init1 refuses it
    yield words
    words.close()


def store(word: WaitWord, value: int) -> int:
    """Do what a registry does when it comes; return how many were woken."""
    fd = os.open(word.path, os.O_RDWR)
    memory = mmap.mmap(fd, 4096)
    os.close(fd)
    atomics.store_u32(memory, 0, value)
    woken = atomics.futex_wake(memory, 0, 1 << 30)
    memory.close()
    return woken


def waiting(words: Words, alarm: Alarm, pair: list[WaitWord]) -> tuple[threading.Thread, list[int]]:
    """Wait in a thread as the listener does, until a word is 1 or the alarm rang."""
    seen: list[int] = []

    def wait() -> None:
        while True:
            values = [word.value() or 0 for word in pair]
            if any(values) or select.select([alarm.fd], [], [], 0)[0]:
                seen.extend(values)
                return
            words.wait(alarm, list(zip(pair, values, strict=True)), None)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, seen


@pytest.mark.parametrize("which", [0, 1])
def test_either_word(words: Words, alarm: Alarm, pair: list[WaitWord], which: int) -> None:
    thread, seen = waiting(words, alarm, pair)
    store(pair[which], 1)
    thread.join()
    assert seen[which] == 1


def test_registry_that_opened_its_word_before(
    words: Words, alarm: Alarm, pair: list[WaitWord]
) -> None:
    with open(pair[1].path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 4096)
        thread, seen = waiting(words, alarm, pair)
        # Asleep by now, or about to: nothing happens to the file from here on.
        thread.join(0.3)
        atomics.store_u32(memory, 0, 1)
        atomics.futex_wake(memory, 0, 1 << 30)
        thread.join()
    memory.close()
    assert seen == [0, 1]


def test_alarm(words: Words, alarm: Alarm, pair: list[WaitWord]) -> None:
    thread, seen = waiting(words, alarm, pair)
    alarm.ring()
    thread.join()
    assert seen == [0, 0]
    # One that was rung before is not slept through.
    assert words.wait(alarm, [(pair[0], 0)], None) is None
    alarm.silence()
    alarm.silence()
    assert words.wait(alarm, [(pair[0], 0)], 0.01) is None
    assert not select.select([alarm.fd], [], [], 0)[0]


def test_change_before_sleeping(words: Words, alarm: Alarm, pair: list[WaitWord]) -> None:
    store(pair[1], 1)
    assert words.wait(alarm, [(word, 0) for word in pair], None) is None


def test_file_that_becomes_shorter(words: Words, alarm: Alarm, pair: list[WaitWord]) -> None:
    """The kernel cannot wait on it, nobody is killed, and the caller sees it."""
    together = words.together
    os.truncate(pair[0].path, 0)
    assert words.wait(alarm, [(word, 0) for word in pair], None) is None
    assert pair[0].value() is None
    assert words.together == together


def test_word_that_is_woken_with_its_value_unchanged(alarm: Alarm, pair: list[WaitWord]) -> None:
    """A registry follows one that was killed."""
    store(pair[1], 1)
    words = Words()
    woken: list[WaitWord | None] = []
    thread = threading.Thread(
        target=lambda: woken.append(words.wait(alarm, [(pair[0], 0), (pair[1], 1)], None))
    )
    thread.start()
    until(lambda: store(pair[1], 1) == 1, "it sleeps")
    thread.join()
    assert woken == [pair[1]]


def test_watch_looks_some_times_after_an_opening(tmp_path: Path) -> None:
    path = tmp_path / "word"
    path.touch()
    watch = Watch()
    for _ in range(2):
        # Again is nothing new.
        watch.follow([str(path)])
    looks_some_times(watch)
    watch.follow([str(path)])
    assert watch.pause() is None
    os.close(os.open(path, os.O_RDWR))
    assert select.select([watch.fd], [], [], 60)[0]
    watch.noticed()
    looks_some_times(watch)
    assert not select.select([watch.fd], [], [], 0)[0]
    watch.close()


def looks_some_times(watch: Watch) -> None:
    pauses = []
    while (pause := watch.pause()) is not None:
        pauses.append(pause)
    assert 3 <= len(pauses) <= 10
    assert 1 <= sum(pauses) <= 10
