# SPDX-License-Identifier: MIT
"""Contexts: what an event may carry, or be selected by, besides its fields.

Each is known in three ways: how native code records it (`native`), how the registry is
told of it (`described`), and what a filter or a capture gets (`getter`). Programs import
this module too, to have contexts of their own: it imports next to nothing.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident, get_native_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from ustconsumer.ctf.types import EnumEntry, Field

    #: Asks for the value of the moment: nothing, a number, text.
    Value: TypeAlias = Callable[[], object]

__all__ = ["described", "forget", "getter", "native", "register"]

_NAMESPACES = ("cgroup_ns", "ipc_ns", "mnt_ns", "net_ns", "pid_ns", "time_ns", "user_ns", "uts_ns")
_USERS = ("vuid", "veuid", "vsuid", "vgid", "vegid", "vsgid")
_NATIVE = ("vtid", "vpid", "pthread_id", "procname", "cpu_id", *_USERS)

#: By "provider:name". One that is registered later is found later.
_applications: dict[str, Value] = {}
#: Inode of each namespace: a process is born into them and remembers, as liblttng-ust does.
_inodes: dict[str, int] = {}


def register(name: str, value: Value) -> None:
    """Give the application context ``provider:name`` its value; replaces an earlier one.

    ``value`` is called for every event that carries the context, on the thread that
    emits: it returns None, an int, a float or a str.
    """
    _applications[name] = value


def forget() -> None:
    """In a forked child: what was remembered is the parent's."""
    _inodes.clear()


def native(name: str) -> tuple[str, object] | None:
    """Return how native code records a context, None for one that it cannot.

    Parameters
    ----------
    name : str
        A key of `ustconsumer.abi.application.CONTEXTS`, or ``$app.provider:name``.
    """
    if name.startswith("$app."):
        return "app", _late(name[len("$app.") :])
    if name in _NATIVE:
        return name, None
    if name in _NAMESPACES:
        return "u64", _inode(name)
    # The address of a call: Python code has none.
    return ("u64", 0) if name == "ip" else None


def described(name: str, enroll: Callable[[str, tuple[EnumEntry, ...]], int]) -> tuple[Field, ...]:
    """Return the fields of a context, word for word those of liblttng-ust.

    Programs that share buffers must describe a channel alike, or one is refused.
    """
    from ustconsumer.ctf.types import Array, Field, Integer
    from ustconsumer.protocol.descriptors import DYNAMIC_ENTRIES, DYNAMIC_ENUM, dynamic_fields

    if name.startswith("$app."):
        return dynamic_fields(name, enroll(DYNAMIC_ENUM, DYNAMIC_ENTRIES))
    if name == "procname":
        return (Field(name, Array(Integer(8, signed=True, encoding="UTF8"), 17)),)
    if name in ("vtid", "vpid", "cpu_id"):
        return (Field(name, Integer(32, signed=True)),)
    return (Field(name, Integer(32 if name in _USERS else 64, signed=False)),)


def getter(name: str) -> Value | None:
    """Return what gets a context's value for a filter or a capture, None for no such one.

    Parameters
    ----------
    name : str
        ``vpid`` or ``$ctx.vpid``; ``$app.provider:name`` or ``app.provider:name``. An
        application context need not be registered: it has no value then.

    Returns
    -------
    callable
        Without arguments. Text is bytes, as in fields.
    """
    name = name.removeprefix("$").removeprefix("ctx.")
    if name.startswith("app."):
        return _encoded(_late(name[len("app.") :]))
    if name in _NAMESPACES:
        inode = _inode(name)
        return lambda: inode
    return _GETTERS.get(name)


def _late(name: str) -> Value:
    """Return what asks an application context, whenever that is registered."""

    def value() -> object:
        current = _applications.get(name)
        return None if current is None else current()

    return value


def _encoded(value: Value) -> Value:
    def encoded() -> object:
        result = value()
        return result.encode("utf-8", "replace") if isinstance(result, str) else result

    return encoded


def _inode(name: str) -> int:
    if name not in _inodes:
        try:
            _inodes[name] = os.stat(f"/proc/thread-self/ns/{name.removesuffix('_ns')}").st_ino
        except OSError:
            # A kernel without this kind of namespace.
            _inodes[name] = 0
    return _inodes[name]


def _procname() -> bytes:
    from ustconsumer._native import emit

    return emit.procname()


def _cpu() -> int:
    from ustconsumer._native import emit

    return emit.current_cpu()


_GETTERS: dict[str, Value] = {
    "vtid": get_native_id,
    "vpid": os.getpid,
    "pthread_id": get_ident,
    "procname": _procname,
    "cpu_id": _cpu,
    "vuid": os.getuid,
    "veuid": os.geteuid,
    "vsuid": lambda: os.getresuid()[2],
    "vgid": os.getgid,
    "vegid": os.getegid,
    "vsgid": lambda: os.getresgid()[2],
}


def _task() -> str | None:
    """Name of the asyncio task that runs on this thread."""
    # Never imported by us: a program without asyncio has no tasks.
    events: Any = sys.modules.get("asyncio.events")
    tasks: Any = sys.modules.get("asyncio.tasks")
    if events is None or tasks is None:
        return None
    loop = events._get_running_loop()
    task = None if loop is None else tasks.current_task(loop)
    return None if task is None else str(task.get_name())


register("asyncio:task", _task)
