# SPDX-License-Identifier: MIT
"""Tracing a Python program from inside: the in-process library.

.. code-block:: python

    from ustconsumer.tracer import Provider, f64, string, u32

    shop = Provider("shop")
    order = shop.tracepoint("order", number=u32, item=string, price=f64)
    order(1, "tea", 2.5)

The program registers with every session registry it finds, ours or lttng-sessiond.
Imports neither numpy nor asyncio, starts one daemon thread, prints nothing.

What lives where:

- ``provider``: `Provider` and what it makes: tracepoints, ``span``, ``counter``
- ``types``: the types of fields; ``levels``: how severe an event is
"""

from __future__ import annotations

from ustconsumer.tracer.levels import Level
from ustconsumer.tracer.provider import Provider
from ustconsumer.tracer.types import (
    enumeration,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    sequence,
    string,
    u8,
    u16,
    u32,
    u64,
)

__all__ = [
    "Level",
    "Provider",
    "enumeration",
    "f32",
    "f64",
    "i8",
    "i16",
    "i32",
    "i64",
    "sequence",
    "string",
    "u8",
    "u16",
    "u32",
    "u64",
]
