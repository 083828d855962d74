# SPDX-License-Identifier: MIT
from __future__ import annotations

import time
from types import SimpleNamespace

from sessiond.registry import Session
from sessiond.whynot import reasons
from ustconsumer.protocol.control import ChannelOptions, EventInfo


def session(name: str, uid: int = 5, state: str = "active") -> Session:
    made = Session(name, uid, uid, "/nowhere", state=state)
    channel = made.add_channel("c", ChannelOptions())
    made.add_rule(channel, EventInfo(pattern="a:*"))
    return made


class App:
    """As much of an application as is looked at."""

    def __init__(self, **entries: SimpleNamespace) -> None:
        self.uid = 5
        self.done = True
        self.done_since = time.monotonic() - 60
        self.program = SimpleNamespace(vpid=1, uid=5, gid=5, name="app")
        self.sessions = entries

    def problem_with(self, session: Session) -> str:
        return ""


def told(app: App, *sessions: Session) -> list[str]:
    for each in sessions:
        each.id = each.name
    return reasons(app, sessions, lambda app, each: each.uid == 5)  # type: ignore[arg-type]


def entry(events: int) -> SimpleNamespace:
    return SimpleNamespace(active=True, events=events)


def test_a_program_that_starts_has_not_said_yet_what_it_has() -> None:
    """Its own tracepoints are registered by constructors, after it was told to go on."""
    app = App(s=entry(0))
    assert told(app, session("s")) == ["no event of session s matches its tracepoints"]
    app.done_since = time.monotonic() + 60
    assert told(app, session("s")) == []
    app.done_since, app.done = 0.0, False
    assert told(app, session("s")) == []


def test_each_session_has_its_own_reason() -> None:
    app = App(one=entry(0), two=entry(3))
    assert told(app, session("one"), session("two"), session("other", 6)) == [
        "no event of session one matches its tracepoints"
    ]


def test_another_users_session_is_a_reason_only_where_there_is_no_better_one() -> None:
    line = "session other is of uid 6, who may record only own programs"
    assert told(App(), session("other", 6)) == [line]
    assert told(App(two=entry(3)), session("other", 6), session("two")) == []
    # One that does not run would not record it anyway.
    assert told(App(), session("other", 6, "inactive"), session("own", 5, "configured")) == []
