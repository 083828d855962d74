# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from sessiond.registry import TRANSITIONS, Registry, Session
from ustconsumer.errors import CommandError
from ustconsumer.protocol.control import ChannelOptions, EventInfo


@pytest.fixture
def session() -> Session:
    return Session(name="s", uid=1000, gid=1000, output="/srv/s")


def test_life(session: Session) -> None:
    for verb, state in (
        ("start", "active"),
        ("stop", "inactive"),
        ("start", "active"),
        ("stop", "inactive"),
        ("destroy", "destroyed"),
    ):
        session.step(verb)
        assert session.state == state


@pytest.mark.parametrize(
    ("state", "verb"),
    [
        ("configured", "stop"),
        ("active", "start"),
        ("inactive", "stop"),
        ("destroyed", "start"),
        ("destroyed", "destroy"),
    ],
)
def test_what_leads_nowhere_is_refused(session: Session, state: str, verb: str) -> None:
    session.state = state
    with pytest.raises(CommandError):
        session.step(verb)
    assert session.state == state


def test_every_state_can_be_left_but_the_last() -> None:
    reachable = {following for verbs in TRANSITIONS.values() for following in verbs.values()}
    assert reachable | {"configured"} == set(TRANSITIONS)
    assert [state for state, verbs in TRANSITIONS.items() if not verbs] == ["destroyed"]


def test_names_are_unique_until_destroyed(session: Session) -> None:
    registry = Registry()
    registry.add(session)
    twin = Session(name="s", uid=session.uid, gid=0, output="")
    with pytest.raises(CommandError) as refused:
        registry.add(twin)
    assert refused.value.kind == "session-exists"
    registry.remove(twin)
    assert list(registry) == [session]
    registry.remove(session)
    registry.add(twin)
    assert list(registry) == [twin]


def test_each_user_has_names_of_their_own(session: Session) -> None:
    registry = Registry()
    twin = Session(name="s", uid=1001, gid=1001, output="")
    registry.add(session)
    registry.add(twin)
    assert registry.named("s", 1000) == [session]
    assert registry.named("s", 1001) == [twin]
    # Who has none may mean any of them; an id is one session's only.
    assert registry.named("s", 0) == [session, twin]
    assert registry.named(twin.id, 0) == [twin]
    registry.remove(session)
    assert registry.named("s", 1000) == [twin]


def test_channels_are_numbered_in_order(session: Session) -> None:
    first = session.add_channel("b", ChannelOptions())
    second = session.add_channel("a", ChannelOptions())
    assert (first.id, second.id) == (0, 1)
    with pytest.raises(CommandError) as refused:
        session.add_channel("b", ChannelOptions())
    assert refused.value.kind == "channel-exists"
    with pytest.raises(CommandError) as refused:
        session.pick_channel("c")
    assert refused.value.kind == "no-such-channel"
    with pytest.raises(CommandError):
        session.pick_channel("")


def test_default_channel(session: Session) -> None:
    channel = session.pick_channel("")
    assert channel.name == "channel0"
    assert session.pick_channel("") is channel


def test_rules(session: Session) -> None:
    channel = session.pick_channel("")
    session.add_rule(channel, EventInfo(pattern="a:*"))
    session.add_rule(channel, EventInfo(pattern="a:*", loglevel_type=1, loglevel=4))
    with pytest.raises(CommandError):
        session.add_rule(channel, EventInfo(pattern="a:*"))
    channel.rules[0].info.enabled = False
    session.add_rule(channel, EventInfo(pattern="a:*"))
    assert [(rule.id, rule.info.enabled) for rule in channel.rules] == [(0, True), (1, True)]
    # With a filter it is another rule, with an equal one the same.
    session.add_rule(channel, EventInfo(pattern="a:*", filter="n == 1"))
    with pytest.raises(CommandError):
        session.add_rule(channel, EventInfo(pattern="a:*", filter="n == 1"))
    assert len(channel.rules) == 3


def test_contexts_go_to_every_channel_or_none(session: Session) -> None:
    session.add_channel("a", ChannelOptions())
    session.add_channel("b", ChannelOptions()).contexts.append("vpid")
    with pytest.raises(CommandError):
        session.add_contexts("", ["vtid", "vpid"])
    assert [channel.contexts for channel in session.channels] == [[], ["vpid"]]
    session.add_contexts("", ["vtid", "ip"])
    assert [channel.contexts for channel in session.channels] == [
        ["vtid", "ip"],
        ["vpid", "vtid", "ip"],
    ]


def test_channels_and_contexts_are_fixed_by_the_first_start(session: Session) -> None:
    channel = session.pick_channel("")
    session.step("start")
    session.step("stop")
    with pytest.raises(CommandError):
        session.add_channel("late", ChannelOptions())
    with pytest.raises(CommandError):
        session.add_contexts("", ["vpid"])
    session.add_rule(channel, EventInfo(pattern="late:*"))
    assert len(channel.rules) == 1
