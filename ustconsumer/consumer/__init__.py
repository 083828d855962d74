# SPDX-License-Identifier: MIT
"""Consumers: attach to a session, move its packets to a sink."""

from __future__ import annotations

from ustconsumer.consumer.attach import Attachment, attach
from ustconsumer.consumer.consumer import Consumer
from ustconsumer.consumer.packet import Packet, Stream, Trace
from ustconsumer.consumer.sink import DrainingWriter, Sink, Writer

__all__ = [
    "Attachment",
    "Consumer",
    "DrainingWriter",
    "Packet",
    "Sink",
    "Stream",
    "Trace",
    "Writer",
    "attach",
]
