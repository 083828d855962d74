# SPDX-License-Identifier: MIT
"""Triggers as the command line says them, and as they are shown."""

from __future__ import annotations

import argparse
import random

import pytest

from ustconsumer.cli.add_trigger import prepare
from ustconsumer.cli.triggers import Option, describe, trigger_of
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import EventInfo, SnapshotOutput, TriggerAction, TriggerInfo

RULE = [Option("--condition", ["event-rule-matches"]), Option("--type", ["user"])]
NOTIFY = Option("--action", ["notify"])


def rule(name: str, value: str) -> EventInfo:
    return trigger_of([*RULE, Option(name, [value]), NOTIFY]).event


def action(*options: Option) -> TriggerAction:
    (only,) = trigger_of([*RULE, *options]).actions
    return only


def test_each_option_belongs_to_what_is_before_it() -> None:
    wanted = trigger_of(
        [
            Option("--name", ["mine"]),
            Option("--owner-uid", ["7"]),
            *RULE,
            Option("--name", ["app:*"]),
            Option("--capture", ["a"]),
            Option("--capture", ["b"]),
            NOTIFY,
            Option("--action", ["snapshot-session", "s"]),
            Option("--name", ["snap"]),
        ]
    )
    assert (wanted.name, wanted.uid, wanted.event.pattern) == ("mine", 7, "app:*")
    assert wanted.captures == ["a", "b"]
    assert wanted.actions == [
        TriggerAction(kind="notify"),
        TriggerAction(kind="snapshot", session="s", output=SnapshotOutput(name="snap")),
    ]


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("..", (0, -1)),
        ("INFO", (2, 6)),
        ("TRACE_INFO", (2, 6)),
        ("INFO..", (1, 6)),
        ("DEBUG..EMERG", (1, 14)),
        ("TRACE_INFO..TRACE_EMERG", (1, 6)),
    ],
)
def test_log_levels(text: str, levels: tuple[int, int]) -> None:
    event = rule("--log-level", text)
    assert (event.loglevel_type, event.loglevel) == levels


@pytest.mark.parametrize(
    "text", ["", "info", "..INFO", "..EMERG", "EMERG..INFO", "LOUD", "4", "INFO..4", "INFO..INFO.."]
)
def test_log_levels_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="log levels"):
        rule("--log-level", text)


def test_rate_policies() -> None:
    every = action(NOTIFY, Option("--rate-policy", ["every:10"]))
    assert (every.rate, every.rate_count) == ("every", 10)
    once = action(NOTIFY, Option("--rate-policy", ["once-after:3"]))
    assert (once.rate, once.rate_count) == ("once-after", 3)
    for text in ("every", "every:0", "every:-1", "every:x", "each:3", f"every:{1 << 63}"):
        with pytest.raises(UsageError, match="rate policy"):
            action(NOTIFY, Option("--rate-policy", [text]))


def test_where_a_snapshot_goes() -> None:
    taken = action(
        Option("--action", ["snapshot-session", "s"]),
        Option("--max-size", ["10M"]),
        Option("--url", ["file:///x"]),
    )
    assert taken.output == SnapshotOutput(path="/x", max_size=10 << 20)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "condition is missing"),
        ([NOTIFY], "condition is missing"),
        ([RULE[0], NOTIFY], "needs a type"),
        (RULE, "action is missing"),
        ([*RULE, *RULE[:1], NOTIFY], "one condition"),
        ([Option("--condition", ["session-consumed-size"])], "not supported"),
        ([Option("--condition", ["wish"])], "unknown condition"),
        ([*RULE, Option("--action", ["rotate-session", "s"])], "not supported"),
        ([*RULE, Option("--action", ["dance"])], "unknown action"),
        ([RULE[0], Option("--type", ["jul"])], "not supported"),
        ([RULE[0], Option("--type", ["jul:logging"])], "not supported"),
        ([RULE[0], Option("--type", ["wish"])], "unknown type"),
        ([Option("--filter", ["a"])], "belongs to a condition or an action"),
        ([*RULE, Option("--max-size", ["1"])], "does not belong to a condition"),
        ([*RULE, NOTIFY, Option("--name", ["n"])], "does not belong to --action notify"),
        ([*RULE, NOTIFY, Option("--filter", ["a"])], "does not belong to --action notify"),
        ([*RULE, Option("--action", ["start-session"])], "needs the name of a session"),
        ([*RULE, Option("--action", ["notify", "s"])], "unexpected argument 's'"),
        ([*RULE, Option("--action", ["stop-session", "a", "b"])], "unexpected argument 'b'"),
    ],
)
def test_refused_in_one_line(options: list[Option], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        trigger_of(options)


def test_a_session_behind_an_action_with_a_sign() -> None:
    assert prepare(["--action=stop-session", "s", "--filter=a=b", "--action", "notify"]) == [
        *("--action", "stop-session", "s", "--filter=a=b", "--action", "notify")
    ]


def test_what_went_wrong_is_shown() -> None:
    failing = TriggerAction(
        kind="snapshot", session="s", output=SnapshotOutput(path="/x"), failed=2
    )
    info = TriggerInfo(
        name="t",
        uid=5,
        event=EventInfo(pattern="a:b", loglevel_type=2, loglevel=4),
        captures=[],
        actions=[failing],
        hits=9,
        lost=3,
        problems=["snapshot of session s: no room"],
    )
    assert describe(info).splitlines() == [
        "- name: t",
        "  owner uid: 5",
        "  condition: event rule matches",
        "    rule: a:b (type: user tracepoint, log level is WARNING)",
        "    errors: 3 notifications could not be read",
        "  actions:",
        "    snapshot session `s`, path: /x",
        "      errors: failed 2 times",
        "  errors:",
        "    snapshot of session s: no room",
        "  hits: 9",
    ]


def test_any_order_of_options_is_a_trigger_or_an_error() -> None:
    generator = random.Random(1)  # noqa: S311 (the same each time)
    values = ["user", "notify", "snapshot-session", "s", "10M", "every:2", "INFO..", "a:*", "", "1"]
    options = ["--condition", "--action", "--name", "--owner-uid", "--type", "--filter", "--url"]
    options += ["--log-level", "--capture", "--rate-policy", "--max-size", "--exclude-name"]
    accepted = 0
    for _ in range(3000):
        chosen = [
            Option(generator.choice(options), generator.choices(values, k=1))
            for _ in range(generator.randrange(5))
        ]
        try:
            trigger_of([*RULE, *chosen, NOTIFY])
            accepted += 1
        except (UsageError, argparse.ArgumentTypeError):
            continue
    assert accepted
