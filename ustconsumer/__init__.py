# SPDX-License-Identifier: MIT
"""LTTng user-space tracing without lttng-tools.

What lives where:

- ``attach``: read a session's packets as numpy views (`ustconsumer.consumer`)
- ``open_trace``: the events of what was recorded (`ustconsumer.ctf.reading`)
- ``record``: record this process for the time of a block (`ustconsumer.client.inprocess`)
- ``record_command``: run a command and record it (`ustconsumer.client.record`)
- ``connect``, ``Session``: control a registry (`ustconsumer.client`); ``aio``: with asyncio
- ``tracer``: the tracepoints of a Python program; ``testing``: a fixture of pytest for them
- ``errors``: the exceptions, one tree below `UstConsumerError`

Names are resolved on first use, so that ``import ustconsumer`` costs nothing.
"""

from __future__ import annotations

# Not from typing: a traced program imports this package.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ustconsumer import errors as errors
    from ustconsumer.client import aio as aio
    from ustconsumer.client.inprocess import record as record
    from ustconsumer.client.record import record_command as record_command
    from ustconsumer.client.registry import Registry as Registry
    from ustconsumer.client.registry import connect as connect
    from ustconsumer.client.session import Session as Session
    from ustconsumer.consumer.attach import attach as attach
    from ustconsumer.ctf.reading import open_trace as open_trace

__all__ = [
    "Registry",
    "Session",
    "__version__",
    "aio",
    "attach",
    "connect",
    "errors",
    "open_trace",
    "record",
    "record_command",
]

__version__ = "0.1.0"

#: public name -> the module that defines it
_HOMES = {
    "Registry": "ustconsumer.client.registry",
    "Session": "ustconsumer.client.session",
    "attach": "ustconsumer.consumer.attach",
    "connect": "ustconsumer.client.registry",
    "open_trace": "ustconsumer.ctf.reading",
    "record": "ustconsumer.client.inprocess",
    "record_command": "ustconsumer.client.record",
}
#: those that are modules
_MODULES = {"aio": "ustconsumer.client.aio", "errors": "ustconsumer.errors"}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'ustconsumer' has no attribute {name!r}") from None
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
