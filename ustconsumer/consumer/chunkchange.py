# SPDX-License-Identifier: MIT
"""Where one trace chunk ends, and the next begins, among packets on their way to a relay."""

from __future__ import annotations

from collections.abc import Iterable

from ustconsumer.consumer.flow import Flow, Outgoing
from ustconsumer.protocol.relay import CreateChunk

__all__ = ["ChunkChange"]


class ChunkChange:
    """A trace chunk that is to follow: what is here now belongs to the one before.

    Parameters
    ----------
    chunk : CreateChunk
    closed : int
        Seconds since the epoch at which the old one ends.
    delete : bool
        Have the relay delete the old one.
    flows : iterable of Flow

    Attributes
    ----------
    arrived : bool
        All of the old chunk has arrived.
    settled : bool
        What has arrived was given back to its buffers: a consumer that takes over does not
        send it to the next chunk too.
    begun : bool
        The relay may have been told.
    result : tuple of (str, str) or None
        When it is over: what was wrong, and where the old chunk is below the relay's directory.
    """

    def __init__(
        self, chunk: CreateChunk, closed: int, delete: bool, flows: Iterable[Flow] = ()
    ) -> None:
        self.chunk = chunk
        self.closed = closed
        self.delete = delete
        self.arrived = False
        self.settled = False
        self.begun = False
        self.result: tuple[str, str] | None = None
        self._last = {flow: flow.newest for flow in flows}

    def admits(self, flow: Flow, packet: Outgoing) -> bool:
        """Return whether a packet is of the old chunk."""
        return packet.sequence <= self._last.get(flow, -1)

    @property
    def is_under_way(self) -> bool:
        """Whether it is not over."""
        return self.result is None

    @property
    def is_due(self) -> bool:
        """Whether all of the old chunk has arrived."""
        return not any(flow.has_before(last) for flow, last in self._last.items())
