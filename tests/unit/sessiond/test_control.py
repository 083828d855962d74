# SPDX-License-Identifier: MIT
"""Verbs by the uid of who asks, on a global registry that several users share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from sessiond.access import Access
from sessiond.channelverbs import ChannelVerbs
from sessiond.clients import Handler
from sessiond.control import Control
from sessiond.readingverbs import ReadingVerbs
from sessiond.recording import Recording
from sessiond.registry import Registry, Session
from sessiond.sockets import Peer
from ustconsumer.errors import CommandError, UsageError
from ustconsumer.protocol.control import (
    AddContext,
    AppInfo,
    Applications,
    Attach,
    ChannelOptions,
    CreateSession,
    Describe,
    Destination,
    DestroySession,
    Done,
    EnableChannel,
    EnableEvent,
    EventInfo,
    ListApplications,
    ListSessions,
    Message,
    Sessions,
    Shutdown,
    SpawnConsumer,
    StartSession,
    StopSession,
)

ROOT, MINE, THEIRS = 0, 1000, 1001


class Asker:
    """A connection, as far as a verb sees it."""

    def __init__(self, uid: int) -> None:
        self.peer = Peer(1, uid, uid)
        self.subscription = None


class Host:
    """A daemon without applications or consumers."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.access = Access(ROOT, True, "no-such-group")
        self.ended = False
        self.slow = lambda session: []
        self._recordings: dict[str, Recording] = {}

    def recording(self, session: Session) -> Recording:
        return self._recordings[session.id]

    def open(self, session: Session) -> None:
        self._recordings[session.id] = Recording(session)

    def discard(self, session: Session) -> None:
        self._recordings.pop(session.id).close()

    async def settle(self, session: Session) -> Sequence[str]:
        return []

    def applications(self, seen: Callable[[Session], bool] = lambda session: True) -> list[AppInfo]:
        return [
            AppInfo(
                pid=uid + 1,
                ppid=1,
                uid=uid,
                gid=uid,
                name="app",
                abi="9.0",
                bits=64,
                tracer="2.13.5",
                state="registered",
                # As if all sessions recorded it.
                sessions=[session.name for session in self.registry if seen(session)],
                reason="",
            )
            for uid in (ROOT, MINE, THEIRS)
        ]

    def shutdown(self) -> None:
        self.ended = True

    def close(self) -> None:
        for recording in self._recordings.values():
            recording.close()


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


def handlers_of(host: Any) -> dict[type[Message], Handler]:
    verbs = (Control(host), ChannelVerbs(host), ReadingVerbs(host))
    return {kind: handler for each in verbs for kind, handler in each.handlers().items()}


def ask(host: Host, uid: int, request: Message) -> Any:
    handlers = handlers_of(host)
    return asyncio.run(handlers[type(request)](Asker(uid), request))  # type: ignore[arg-type]


REQUESTS = [
    ListSessions(session="s"),
    StartSession(session="s"),
    StopSession(session="s"),
    DestroySession(session="s"),
    EnableChannel(session="s", channel="c", options=ChannelOptions()),
    EnableEvent(session="s", channel="", event=EventInfo(pattern="*")),
    AddContext(session="s", channel="", contexts=["vpid"]),
    Describe(session="s"),
    SpawnConsumer(session="s", kind="disk"),
    Attach(session="s", consume=True, kind="disk"),
    Attach(session="s", consume=False, kind="top"),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_a_session_of_another_user_is_not_there(host: Host, request_: Message) -> None:
    ask(host, MINE, CreateSession(name="s", output=""))
    with pytest.raises(CommandError) as refused:
        ask(host, THEIRS, request_)
    # The very answer to a name that nobody has.
    with pytest.raises(CommandError) as missing:
        ask(host, THEIRS, ListSessions(session="nobody's"))
    assert (refused.value.kind, str(refused.value)) == (
        "no-such-session",
        str(missing.value).replace('"nobody\'s"', "'s'"),
    )
    assert ask(host, MINE, ListSessions(session="s")).sessions[0].channels == []


def test_a_filter_that_is_none_adds_no_rule(host: Host) -> None:
    ask(host, MINE, CreateSession(name="s", output=""))
    event = EventInfo(pattern="*", filter="n ==")
    with pytest.raises(UsageError, match="column 5"):
        ask(host, MINE, EnableEvent(session="s", channel="", event=event))
    assert ask(host, MINE, ListSessions(session="s")).sessions[0].channels == []


def test_a_name_that_another_user_has_is_free(host: Host) -> None:
    for uid in (MINE, THEIRS):
        ask(host, uid, CreateSession(name="s", output=f"/{uid}"))
    with pytest.raises(CommandError) as taken:
        ask(host, MINE, CreateSession(name="s", output=""))
    assert taken.value.kind == "session-exists"
    for uid in (MINE, THEIRS):
        (mine,) = ask(host, uid, ListSessions(session="s")).sessions
        assert mine.output == f"/{uid}"
    # Root may mean either, and has to say which.
    with pytest.raises(CommandError, match=r"several users \(uids 1000, 1001\)"):
        ask(host, ROOT, DestroySession(session="s"))
    for session in ask(host, ROOT, ListSessions()).sessions:
        (same,) = ask(host, ROOT, ListSessions(session=session.id)).sessions
        assert same.uid == session.uid
    # Its id does not help who may not see it.
    with pytest.raises(CommandError) as refused:
        ask(host, THEIRS, ListSessions(session=ask(host, MINE, ListSessions()).sessions[0].id))
    assert refused.value.kind == "no-such-session"
    ask(host, THEIRS, DestroySession(session="s"))
    assert [session.uid for session in ask(host, ROOT, ListSessions()).sessions] == [MINE]


def test_who_waited_for_a_session_that_was_destroyed_does_not_get_its_successor(
    host: Host,
) -> None:
    ask(host, MINE, CreateSession(name="s", output="/old"))
    (session,) = host.registry.named("s", MINE)

    async def scenario() -> None:
        handlers = handlers_of(host)
        async with host.recording(session).lock:
            waiting = asyncio.ensure_future(
                handlers[DestroySession](Asker(MINE), DestroySession(session="s"))  # type: ignore[arg-type]
            )
            await asyncio.sleep(0)
            session.step("destroy")
            host.registry.remove(session)
            host.discard(session)
            await handlers[CreateSession](Asker(MINE), CreateSession(name="s", output="/new"))  # type: ignore[arg-type]
        with pytest.raises(CommandError, match="not found"):
            await waiting

    asyncio.run(scenario())
    assert [session.output for session in host.registry] == ["/new"]


def test_users_see_what_is_theirs_and_root_all(host: Host) -> None:
    for uid, name in ((MINE, "mine"), (THEIRS, "theirs")):
        assert isinstance(ask(host, uid, CreateSession(name=name, output="")), Done)
    for uid, sessions, apps in (
        (MINE, ["mine"], [MINE]),
        (THEIRS, ["theirs"], [THEIRS]),
        (ROOT, ["mine", "theirs"], [ROOT, MINE, THEIRS]),
    ):
        listed = ask(host, uid, ListSessions())
        assert isinstance(listed, Sessions)
        assert [session.name for session in listed.sessions] == sessions
        programs = ask(host, uid, ListApplications())
        assert isinstance(programs, Applications)
        assert [app.uid for app in programs.applications] == apps
        assert {tuple(app.sessions) for app in programs.applications} == {tuple(sessions)}


def test_who_may_end_the_registry(host: Host) -> None:
    with pytest.raises(CommandError) as refused:
        ask(host, MINE, Shutdown())
    assert refused.value.kind == "permission"
    assert not host.ended
    ask(host, ROOT, Shutdown())
    assert host.ended


def test_the_end_of_the_registry_waits_for_the_verb_that_destroys_a_session(host: Host) -> None:
    ask(host, MINE, CreateSession(name="s", output=""))
    (session,) = host.registry.named("s", MINE)

    async def scenario() -> list[str]:
        async with host.recording(session).lock:
            ending = asyncio.ensure_future(Control(host).finish_if_active(session))  # type: ignore[arg-type]
            session.step("destroy")
            host.registry.remove(session)
            host.discard(session)
        return await ending

    assert asyncio.run(scenario()) == []


RELAY = Destination(url="net://h")


@pytest.mark.parametrize(
    ("session", "request_", "word"),
    [
        (CreateSession(name="s", output="/t"), {"kind": "network"}, "has no relay"),
        (CreateSession(name="s", output="", destination=RELAY), {"kind": "disk"}, "no directory"),
        (CreateSession(name="s", output="", destination=RELAY), {"direct": True}, "page cache"),
        (CreateSession(name="s", output="/t"), {"kind": "snapshot"}, "unknown kind"),
    ],
)
def test_consumers_that_have_no_place(
    host: Host, session: CreateSession, request_: dict[str, Any], word: str
) -> None:
    ask(host, MINE, session)
    with pytest.raises(UsageError, match=word):
        ask(host, MINE, SpawnConsumer(session="s", **request_))
