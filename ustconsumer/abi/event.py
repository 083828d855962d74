# SPDX-License-Identifier: MIT
"""Event headers as the tracer writes them (``event_header_large``, x86-64: packed)."""

from __future__ import annotations

from ustconsumer.abi.rows import Layout, Row

__all__ = ["COMPACT_EVENT", "EXTENDED_EVENT", "EXTENDED_ID"]

_CLIENT = "lttng-ust de624c20 (v2.13.5) src/common/ringbuffer-clients/template.h"

#: In the place of the id: the extended header follows.
EXTENDED_ID = 65535

#: Id and the low half of the timestamp.
COMPACT_EVENT = Layout(
    "compact event header",
    6,
    1,
    _CLIENT,
    [
        Row("id", "<u2", 0, "lttng_write_event_header: event_id"),
        Row("timestamp", "<u4", 2, "lttng_write_event_header: timestamp"),
    ],
)

#: `EXTENDED_ID`, then id and the whole timestamp.
EXTENDED_EVENT = Layout(
    "extended event header",
    14,
    1,
    _CLIENT,
    [
        Row("marker", "<u2", 0, "lttng_write_event_header_slow: id"),
        Row("id", "<u4", 2, "lttng_write_event_header_slow: event_id"),
        Row("timestamp", "<u8", 6, "lttng_write_event_header_slow: timestamp"),
    ],
)
