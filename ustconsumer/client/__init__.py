# SPDX-License-Identifier: MIT
"""The one way to talk to a registry: connections, sessions, recording a command.

Here is what a program needs that controls a registry (docs/python-client.md): `connect`,
`Registry` and `Session`, their twins for asyncio in `aio`, and the types of what they take and
return. Names are resolved on first use: asyncio comes with `aio` only.
"""

from __future__ import annotations

# Not from typing: programs that import the package pay for what they use.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ustconsumer.client import aio as aio
    from ustconsumer.client.aio import AsyncRegistry as AsyncRegistry
    from ustconsumer.client.aio import AsyncSession as AsyncSession
    from ustconsumer.client.registry import Registry as Registry
    from ustconsumer.client.registry import connect as connect
    from ustconsumer.client.saved import SavedSession as SavedSession
    from ustconsumer.client.session import Session as Session
    from ustconsumer.client.sessionfiles import read_saved as read_saved
    from ustconsumer.client.sessionfiles import sessions_directory as sessions_directory
    from ustconsumer.protocol.control import ERROR_KINDS as ERROR_KINDS
    from ustconsumer.protocol.control import AppInfo as AppInfo
    from ustconsumer.protocol.control import ChannelInfo as ChannelInfo
    from ustconsumer.protocol.control import ChannelOptions as ChannelOptions
    from ustconsumer.protocol.control import Destination as Destination
    from ustconsumer.protocol.control import EventInfo as EventInfo
    from ustconsumer.protocol.control import Notification as Notification
    from ustconsumer.protocol.control import Rotated as Rotated
    from ustconsumer.protocol.control import RotationSchedule as RotationSchedule
    from ustconsumer.protocol.control import SessionInfo as SessionInfo
    from ustconsumer.protocol.control import SnapshotOutput as SnapshotOutput
    from ustconsumer.protocol.control import TriggerAction as TriggerAction
    from ustconsumer.protocol.control import TriggerInfo as TriggerInfo

__all__ = [
    "ERROR_KINDS",
    "AppInfo",
    "AsyncRegistry",
    "AsyncSession",
    "ChannelInfo",
    "ChannelOptions",
    "Destination",
    "EventInfo",
    "Notification",
    "Registry",
    "Rotated",
    "RotationSchedule",
    "SavedSession",
    "Session",
    "SessionInfo",
    "SnapshotOutput",
    "TriggerAction",
    "TriggerInfo",
    "aio",
    "connect",
    "read_saved",
    "sessions_directory",
]

#: public name -> the module below this package that defines it; of the others: the protocol's
_HOMES = {
    "AsyncRegistry": "aio",
    "AsyncSession": "aio",
    "Registry": "registry",
    "SavedSession": "saved",
    "Session": "session",
    "connect": "registry",
    "read_saved": "sessionfiles",
    "sessions_directory": "sessionfiles",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "aio":
        return importlib.import_module("ustconsumer.client.aio")
    if name not in __all__:
        raise AttributeError(f"module 'ustconsumer.client' has no attribute {name!r}")
    home = f"client.{_HOMES[name]}" if name in _HOMES else "protocol.control"
    return getattr(importlib.import_module(f"ustconsumer.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
