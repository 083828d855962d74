# SPDX-License-Identifier: MIT
"""What is kept of the traces of processes that ended, once their memory is gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from sessiond.traces import Trace
from ustconsumer.protocol.control import MAX_COUNT, TraceDescription

__all__ = ["PastTraces"]


class PastTraces:
    """Losses and layouts of traces that are closed, until the session is destroyed.

    Most processes of a session are runs of the same few programs, whose records have the
    same layout: each layout is kept once.
    """

    def __init__(self) -> None:
        self._lost: dict[int, int] = {}
        self._descriptions = _Shared(())

    def add(self, trace: Trace) -> None:
        """Take what counts of a trace, before it is closed."""
        for stream in trace.streams:
            channel = stream.channel.id
            self._lost[channel] = min(self.lost(channel) + stream.info(trace.id).lost, MAX_COUNT)
        self._descriptions.add(trace.description())

    def lost(self, channel: int) -> int:
        """Return the events lost in the buffers of a channel."""
        return self._lost.get(channel, 0)

    def descriptions(self, living: Iterable[Trace]) -> list[TraceDescription]:
        """Return the layouts of these traces and of the living ones, equal ones together."""
        everything = _Shared(self._descriptions)
        for trace in living:
            everything.add(trace.description())
        return list(everything)


class _Shared:
    """Descriptions, those with equal layouts as one."""

    def __init__(self, descriptions: Iterable[TraceDescription]) -> None:
        self._by_layout: dict[bytes, TraceDescription] = {}
        for description in descriptions:
            self.add(description)

    def add(self, one: TraceDescription) -> None:
        layout = msgspec.msgpack.encode((one.contexts, one.events))
        known = self._by_layout.get(layout)
        if known is None:
            # A copy: what is added to it is not for whoever gave it to us.
            self._by_layout[layout] = msgspec.structs.replace(one, also=list(one.also))
        else:
            known.also += [one.path, *one.also]

    def __iter__(self) -> Iterator[TraceDescription]:
        return iter(self._by_layout.values())
