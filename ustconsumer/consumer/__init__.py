# SPDX-License-Identifier: MIT
"""Consumers and observers: attach to a session, read its packets, move them to a sink.

Names are imported when they are first used: a snapshot needs little of a consumer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ustconsumer.consumer.attach import Attachment as Attachment
    from ustconsumer.consumer.consumer import Consumer as Consumer
    from ustconsumer.consumer.observer import Observer as Observer
    from ustconsumer.consumer.packet import Packet as Packet
    from ustconsumer.consumer.packet import Stream as Stream
    from ustconsumer.consumer.packet import Trace as Trace
    from ustconsumer.consumer.sink import DrainingWriter as DrainingWriter
    from ustconsumer.consumer.sink import Sink as Sink
    from ustconsumer.consumer.sink import Writer as Writer
    from ustconsumer.consumer.snapshot import Snapshot as Snapshot

__all__ = [
    "Attachment",
    "Consumer",
    "DrainingWriter",
    "Observer",
    "Packet",
    "Sink",
    "Snapshot",
    "Stream",
    "Trace",
    "Writer",
]

_HOMES = {
    "Attachment": "attach",
    "Consumer": "consumer",
    "DrainingWriter": "sink",
    "Observer": "observer",
    "Packet": "packet",
    "Sink": "sink",
    "Snapshot": "snapshot",
    "Stream": "packet",
    "Trace": "packet",
    "Writer": "sink",
}


def __getattr__(name: str) -> Any:
    import importlib

    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
