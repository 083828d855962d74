# SPDX-License-Identifier: MIT
"""What can be asked of a registry, beside its sessions; see `ustconsumer.client.exchange`."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ustconsumer.client.exchange import Exchange, ask, done
from ustconsumer.protocol.control import (
    AddTrigger,
    AppInfo,
    Applications,
    CreateSession,
    Destination,
    EventInfo,
    ListApplications,
    ListLoggers,
    ListSessions,
    ListTriggers,
    Loggers,
    LoggingProgram,
    RemoveTrigger,
    SessionInfo,
    Sessions,
    Shutdown,
    TriggerAction,
    TriggerInfo,
    Triggers,
)

__all__ = [
    "add_trigger",
    "applications",
    "create",
    "loggers",
    "remove_trigger",
    "sessions",
    "shutdown",
    "triggers",
]


def create(
    name: str,
    output: str | os.PathLike[str],
    *,
    snapshot: bool = False,
    shm_path: str | os.PathLike[str] | None = None,
    destination: Destination | None = None,
) -> Exchange[None]:
    """Create a recording session, see `Registry.create`."""
    request = CreateSession(
        name=name,
        output="" if output == "" else os.path.abspath(output),
        snapshot=snapshot,
        shm_path="" if shm_path is None else os.path.abspath(shm_path),
        destination=destination or Destination(),
    )
    yield from done(request)


def sessions() -> Exchange[list[SessionInfo]]:
    """Return the sessions this user may see."""
    return (yield from ask(ListSessions(), Sessions)).sessions


def applications() -> Exchange[list[AppInfo]]:
    """Return the registered applications, and why one is not traced."""
    return (yield from ask(ListApplications(), Applications)).applications


def loggers() -> Exchange[list[LoggingProgram]]:
    """Return the running programs with an agent of Python's logging, and their loggers."""
    return (yield from ask(ListLoggers(), Loggers)).programs


def add_trigger(
    pattern: str,
    *,
    name: str = "",
    actions: Iterable[TriggerAction] = (),
    captures: Iterable[str] = (),
    loglevel_type: int = 0,
    loglevel: int = -1,
    exclusions: Iterable[str] = (),
    filter: str | None = None,  # noqa: A002 - lttng's word
    uid: int | None = None,
) -> Exchange[TriggerInfo]:
    """Have something done whenever an event matches, in a program that is there or comes.

    Returns when every program that answers in time has it.

    Parameters
    ----------
    pattern, loglevel_type, loglevel, exclusions, filter
        Which events: as in `Session.enable_event`.
    name : str
        Default: ``trigger0``, ``trigger1`` ...
    actions : iterable of TriggerAction
        What is done, in this order. Default: notify.
    captures : iterable of str
        What of the event each notification tells: ``size``, ``ids[3]``, ``$ctx.vpid``.
    uid : int, optional
        Whose it is; only root may name somebody else.

    Raises
    ------
    CommandError
        ``kind`` "trigger-exists" for a taken name.
    UsageError
        A filter or a capture is none.
    """
    from ustconsumer.client.capture import compile_capture
    from ustconsumer.client.filter import compile_filter

    wanted = list(captures)
    for text in wanted:
        compile_capture(text)
    if filter is not None:
        compile_filter(filter)
    event = EventInfo(
        pattern=pattern,
        loglevel_type=loglevel_type,
        loglevel=loglevel,
        exclusions=list(exclusions),
        filter=filter or "",
    )
    request = AddTrigger(
        name=name,
        event=event,
        captures=wanted,
        actions=list(actions) or [TriggerAction(kind="notify")],
        uid=-1 if uid is None else uid,
    )
    return (yield from ask(request, Triggers)).triggers[0]


def triggers() -> Exchange[list[TriggerInfo]]:
    """Return the triggers this user may see."""
    return (yield from ask(ListTriggers(), Triggers)).triggers


def remove_trigger(name: str, *, uid: int | None = None) -> Exchange[list[str]]:
    """Remove a trigger; return the registry's warnings.

    Raises
    ------
    CommandError
        ``kind`` "no-such-trigger".
    """
    request = RemoveTrigger(name=name, uid=-1 if uid is None else uid)
    return (yield from done(request))


def shutdown() -> Exchange[None]:
    """End the registry: it drains, closes its traces and exits."""
    yield from done(Shutdown())
