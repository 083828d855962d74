# SPDX-License-Identifier: MIT
"""What every message of the control protocol is."""

from __future__ import annotations

import msgspec

__all__ = [
    "MAX_COUNT",
    "Message",
]

#: What a message can say of a sum of counters.
MAX_COUNT = (1 << 64) - 1


class Message(msgspec.Struct, tag_field="type", kw_only=True, omit_defaults=True):
    """Base of every message. ``seq`` pairs a reply with its request; 0 on a push."""

    seq: int = 0
