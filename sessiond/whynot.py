# SPDX-License-Identifier: MIT
"""Why a registered program is not in a session: the lines of ``drtrace apps``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from sessiond.applications import Application
from sessiond.registry import Session

__all__ = ["reasons"]

#: A program's own tracepoints register themselves after it was told to go on.
_CONSTRUCTOR_SECONDS = 1.0


def reasons(
    app: Application, sessions: Iterable[Session], may_join: Callable[[Application, Session], bool]
) -> list[str]:
    """Return why it is not recorded, a line for each session that records others now.

    Parameters
    ----------
    sessions : iterable of Session
        Those that whoever asks may know of.
    may_join : callable
        Whether an application belongs to those that a session's owner may record.
    """
    running = [session for session in sessions if session.state in ("active", "paused")]
    lines = []
    for session in running:
        if may_join(app, session):
            line = _left_out(app, session)
            if line:
                lines.append(line)
    if lines or any(_recorded(app, session) for session in running):
        return lines
    # Nobody asks why another user's session has not what some session has.
    return [
        f"session {session.name} is of uid {session.uid}, who may record only own programs"
        for session in running
        if not may_join(app, session)
    ]


def _recorded(app: Application, session: Session) -> bool:
    entry = app.sessions.get(session.id)
    return entry is not None and entry.active


def _left_out(app: Application, session: Session) -> str:
    """Return why a session that could record it does not; empty if it does, or soon will."""
    problem = app.problem_with(session)
    if problem:
        return problem
    untracked = session.untracked(app.program)
    if untracked:
        return f"session {session.name}: {untracked}"
    entry = app.sessions.get(session.id)
    if entry is None or not entry.active or entry.events:
        return ""
    channels = [channel for channel in session.channels if channel.enabled]
    if not any(rule.info.enabled for channel in channels for rule in channel.rules):
        return f"no event is enabled in session {session.name}"
    if not app.done or time.monotonic() < app.done_since + _CONSTRUCTOR_SECONDS:
        return ""
    return f"no event of session {session.name} matches its tracepoints"
