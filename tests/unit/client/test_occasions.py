# SPDX-License-Identifier: MIT
"""What a flight recorder takes its snapshots on, as people write it."""

from __future__ import annotations

import signal

import pytest

from ustconsumer.client.occasions import Occasions, check_condition, occasions, signal_name
from ustconsumer.errors import UsageError

USR1, HUP = int(signal.SIGUSR1), int(signal.SIGHUP)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ([], Occasions(exit=True)),
        (["exit"], Occasions(exit=True)),
        (["crash"], Occasions(crash=True)),
        (["exit", "crash", "exit"], Occasions(exit=True, crash=True)),
        (["USR1", "SIGHUP", "usr1"], Occasions(signals=(USR1, HUP))),
        ([str(USR1), HUP, signal.SIGUSR1], Occasions(signals=(USR1, HUP))),
        (["40"], Occasions(signals=(40,))),
        (["shop:error", "*:err*", "shop:error"], Occasions(events=("shop:error", "*:err*"))),
    ],
)
def test_words(words: list[str | int], meant: Occasions) -> None:
    assert occasions(words) == meant


TAKEN = ("INT", "QUIT", "TERM", "KILL", "STOP", "CHLD", "CLD", "SIGINT", "sigterm", "9", 15)


@pytest.mark.parametrize("word", [*TAKEN, "CONT", "SEGV", "PIPE"])
def test_signals_that_mean_something_else(word: str | int) -> None:
    with pytest.raises(UsageError, match=r"taken on SIG[A-Z]+, which .*: use another signal"):
        occasions(["exit", word])


@pytest.mark.parametrize(
    "word",
    [
        "",
        "shop",
        "Exit",
        "USR3",
        "0",
        "65",
        "-1",
        0,
        32,
        "shop:",
        ":error",
        "a b:c",
        "\u0661\u0660",
    ],
)
def test_what_means_nothing_is_answered_with_what_does(word: str | int) -> None:
    with pytest.raises(UsageError) as refused:
        occasions([word])
    text = str(refused.value)
    assert all(each in text for each in ("exit", "crash", "USR1", "shop:error"))
    assert "\n" not in text


def test_in_words() -> None:
    assert occasions(["a:b", "USR1", "crash", "exit"]).words() == [
        "exit",
        "crash",
        "SIGUSR1",
        "a:b",
    ]
    assert signal_name(40) == "signal 40"


def test_a_condition_is_about_events() -> None:
    check_condition(None, "")
    check_condition(occasions(["exit", "shop:error"]), "code > 4")
    for wanted in (None, occasions(["exit"])):
        with pytest.raises(UsageError, match="name one with --snapshot-on"):
            check_condition(wanted, "code > 4")
    with pytest.raises(UsageError):
        check_condition(occasions(["shop:error"]), "code >")
