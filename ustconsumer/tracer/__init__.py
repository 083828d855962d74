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
- ``log``: a handler for `logging`; ``calls``: `trace_calls`, function entry and exit
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ustconsumer.tracer.calls import trace_calls as trace_calls

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
    "trace_calls",
    "u8",
    "u16",
    "u32",
    "u64",
]


def __getattr__(name: str) -> object:
    # Few programs need it.
    if name == "trace_calls":
        from ustconsumer.tracer.calls import trace_calls

        return trace_calls
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
