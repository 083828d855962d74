# SPDX-License-Identifier: MIT
"""Close the sub-buffer being written, from any process. Readable; ``_native.ring`` runs.

Notes
-----
Source: lttng-ust ``src/common/ringbuffer/ring_buffer_frontend.c``
(``lib_ring_buffer_switch_slow``).
"""

from __future__ import annotations

import time

from ustconsumer.ringbuffer.commit import Producer
from ustconsumer.ringbuffer.memory import MASK, StreamMemory

__all__ = ["switch"]


def _refuses_entry(memory: StreamMemory, position: int) -> bool:
    """Return whether the sub-buffer that begins at ``position`` cannot be opened now."""
    geometry = memory.geometry
    if not memory.free_to_enter(position):
        return True  # a writer of the previous turn has not committed yet
    ahead = geometry.subbuf_trunc(position) - geometry.subbuf_trunc(memory.load("consumed"))
    return not geometry.overwrite and ahead & MASK >= geometry.buf_size


def switch(producer: Producer, final: bool, now: int | None = None) -> bool:
    """Close the sub-buffer being written, so that the reader gets what is in it.

    Parameters
    ----------
    producer : Producer
    final : bool
        At a sub-buffer boundary, where there is nothing to close, write an empty packet:
        the trace then extends to ``now``.
    now : int, optional
        CLOCK_MONOTONIC nanoseconds; read for every attempt if not given.

    Returns
    -------
    bool
        Whether a packet was closed. It can be read once its last writer has committed.
    """
    memory, geometry = producer.memory, producer.memory.geometry
    while True:
        # Position first, clock second: after the CAS, times do not decrease along positions.
        old = memory.load("offset")
        clock = time.clock_gettime_ns(time.CLOCK_MONOTONIC) if now is None else now
        at_boundary = geometry.subbuf_offset(old) == 0
        if at_boundary and (not final or _refuses_entry(memory, old)):
            return False
        discarded = memory.lost()
        if memory.cas("offset", old, geometry.subbuf_align(old)):
            break
    memory.store("last_tsc", clock)
    producer.push_reader(old)
    producer.clear_noref(old)
    if at_boundary:
        producer.write_header(old, clock)
        old += geometry.header_size
        producer.commit(old - 1, old, geometry.header_size, discarded)
    producer.close_subbuf(old, clock, discarded)
    return True
