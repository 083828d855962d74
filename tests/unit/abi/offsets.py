# SPDX-License-Identifier: MIT
"""Where lttng-ust's headers put things on x86-64, as a compiler told (sizeof, offsetof).

2.12: stable-2.12 36cebcbb, ``libringbuffer/*.h`` and ``include/lttng/ust-events.h``;
2.14: v2.14.2 b2432c55, ``src/common/ringbuffer/*.h`` and ``src/common/events.h``.
"""

from __future__ import annotations

__all__ = ["V2_12", "V2_14"]

#: By structure; ``(size)`` is its size, ``(buf)`` where its flexible array begins.
V2_12 = {
    "control": {
        "(size)": 640,
        "offset": 128,
        "commit_hot": 136,
        "consumed": 152,
        "record_disabled": 160,
        "last_tsc": 168,
        "buf_wsb": 176,
        "rsb_id": 192,
        "buf_cnt": 200,
        "array": 216,
        "memory_map": 232,
        "chan": 248,
        "cpu": 264,
        "records_read": 272,
        "commit_cold": 352,
        "ts_end": 368,
        "active_readers": 384,
        "lost_full": 392,
        "lost_wrap": 400,
        "lost_big": 408,
        "records_count": 416,
        "records_overrun": 424,
        "finalized": 432,
        "get_subbuf_consumed": 440,
        "prod_snapshot": 448,
        "cons_snapshot": 456,
        "self": 472,
    },
    "hot": {
        "(size)": 128,
        "cc": 0,
        "seq": 8,
    },
    "cold": {
        "(size)": 128,
        "cc_sb": 0,
    },
    "page": {
        "(size)": 64,
        "mmap_offset": 0,
        "records_commit": 8,
        "records_unread": 16,
        "data_size": 24,
        "p": 32,
    },
    "channel": {
        "(size)": 768,
        "record_disabled": 0,
        "commit_count_mask": 8,
        "switch_timer_us": 16,
        "switch_timer": 24,
        "switch_timer_enabled": 32,
        "read_timer_us": 40,
        "read_timer": 48,
        "read_timer_enabled": 56,
        "finalized": 60,
        "priv_data_offset": 64,
        "nr_streams": 72,
        "handle": 80,
        "blocking_timeout_ms": 88,
        "buf_size": 120,
        "subbuf_size": 128,
        "num_subbuf": 152,
        "start_tsc": 160,
        "priv_data": 168,
        "config_alloc": 184,
        "config_mode": 192,
        "config_output": 196,
        "config_wakeup": 212,
        "config_client_type": 304,
        "name": 344,
        "(buf)": 664,
    },
    "client": {
        "(size)": 120,
        "id": 92,
        "uuid": 100,
    },
}

V2_14 = {**V2_12, "cold": {**V2_12["cold"], "end_events_discarded": 8}}
