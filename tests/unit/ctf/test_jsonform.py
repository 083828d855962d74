# SPDX-License-Identifier: MIT
"""Records as JSON: nothing a program could record makes it invalid."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgspec

from ustconsumer.ctf.classes import Clock, EventClass, StreamClass, TraceClass
from ustconsumer.ctf.decode import StreamDecoder
from ustconsumer.ctf.jsonform import JsonForm
from ustconsumer.ctf.types import (
    Array,
    EnumEntry,
    Enumeration,
    Field,
    FloatingPoint,
    Integer,
    String,
)

U8 = Integer(8, signed=False)
ENUMS = {0: (EnumEntry("low", 0, 9), EnumEntry("b\udcff", 3, 3))}


def decoded(payload: bytes, *fields: Field, env: dict[str, int | str]) -> Any:
    trace = TraceClass(
        bytes(16),
        env,
        Clock("monotonic", 1_000_000_000, 0),
        {0: StreamClass(0, False, (Field("vpid", U8),))},
        {0: {0: EventClass(0, 0, "p:e", 6, "", fields)}},
        ENUMS,
    )
    decoder = StreamDecoder(trace, 0, JsonForm())
    ((_, record),) = decoder.records(struct.pack("<HIB", 0, 0, 7) + payload, 0, 0, 3)
    return json.loads(msgspec.json.encode(record))


def test_record() -> None:
    env: dict[str, int | str] = {"hostname": "h", "domain": "ust", "vpid": 5, "procname": "shop"}
    assert decoded(b"\3", Field("e", Enumeration("", U8, 0)), env=env) == {
        "hostname": "h",
        "procname": "shop",
        "vpid": 5,
        "event": "p:e",
        "cpu_id": 3,
        "context": {"vpid": 7},
        "fields": {"e": {"value": 3, "labels": ["low", "b\ufffd"]}},
    }


def test_values_that_json_does_not_have() -> None:
    record = decoded(
        struct.pack("<dd", float("nan"), float("inf"))
        + b"\xff\xc3\xa9\0"
        + struct.pack("<2Q", 0, (1 << 64) - 1),
        Field("nan", FloatingPoint(11, 53)),
        Field("inf", FloatingPoint(11, 53)),
        Field("te\udcffxt", String()),
        Field("numbers", Array(Integer(64, signed=False), 2)),
        env={"hostname": "h\udcff"},
    )
    assert record["hostname"] == "h\ufffd"
    assert record["fields"] == {
        "nan": None,
        "inf": None,
        "te\ufffdxt": "\ufffdé",
        "numbers": [0, (1 << 64) - 1],
    }
