# SPDX-License-Identifier: MIT
"""Filters: the same values from a C and a Python program give the same events.

One session of the real LTTng, which compiles the filters; a channel for each of them, so
that what each lets pass shows by itself.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.lttng import Lttng, lttng_sessiond

from ustconsumer.ctf.reading import Trace

pytestmark = pytest.mark.peers("lttng", "lttng-sessiond", "gcc", "lttng-ust-headers")

#: (integer, real, text)
VALUES = [
    ("0", "0", ""),
    ("1", "1.5", "a"),
    ("3", "-1.5", "hello"),
    ("-1", "0.1", "help"),
    ("2", "1e300", "a*b"),
    ("255", "-0.0", "axb"),
    ("256", "nan", "ab"),
    ("-128", "inf", "back\\slash"),
    ("127", "-inf", "*"),
    ("0x7fffffffffffffff", "9.2e18", "h\xe9llo"),
    ("0x8000000000000000", "-9.3e18", "zz"),
    ("0xffffffffffffffff", "3", "HELLO"),
    ("0x80000000", "2.5", "hello world"),
    ("17", "16777217", "a**b"),
    ("65535", "4294967296.5", "prefix*"),
    ("9007199254740993", "9007199254740992", "hell"),
]

FIELDS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "color")
SIGNS = ("==", "!=", "<", ">", "<=", ">=")
FILTERS = [
    # each type of integer, each comparison
    *(f"{field} {SIGNS[number % 6]} 3" for number, field in enumerate(FIELDS)),
    *(f"{field} < 0" for field in FIELDS),
    "i64 == -1",
    "u64 == 18446744073709551615",
    "u64 > i64",
    "i64 == -9223372036854775807",
    "n >= 4 && n < 9",
    "i32 == 0x7f || i32 == 0377",
    # reals, alone and with integers
    "f64 == 1.5",
    "f64 != 1.5",
    "f32 > 0",
    "f32 == f64",
    "f32 < 0.10000001",
    "f64 >= i64",
    "i64 <= f64",
    "f64 == -0.0",
    "f64 == 9007199254740993",
    "i64 == 9007199254740992.0",
    "!(f64 < 2.5)",
    "f64 != f64",
    "-f64 > 1",
    # text
    's == "hello"',
    's != "hello"',
    's == "hel*"',
    's != "hel*"',
    's == "*"',
    's == "\\\\*"',
    's == "a\\\\*b"',
    's == "a*b"',
    's != "a*b"',
    's == "*l*o*"',
    's == "back\\\\\\\\slash"',
    's == ""',
    's > "hello"',
    's < "hello"',
    's >= "hel*"',
    's <= "a"',
    's < "z"',
    '"abc" == s || "zz" == s',
    's == "prefix\\\\*"',
    # operators on bits
    "(i32 & 0xff) == 1",
    "(u8 | 1) == 255",
    "(i64 ^ -1) == 0",
    "~i8 >= 1 << 2",
    "i64 >> 60 == 15",
    "1 << n == 8",
    "i64 << 63",
    "(i32 & 1) == 1 && (u64 & 2) == 2",
    # unary, logical
    "-i32 < -0x10",
    "+i32 == 3",
    "!i32",
    "!!i32",
    "i32",
    "i32 && f64",
    "!f64",
    "i32 == 1 || i32 == 3 && n == 2",
    "(i32 == 1 || i32 == 3) && n == 2",
    'i32 || s == "zz"',
    "i8 == i16 == 1",
    "i32 && (i32 & 1)",
    "f64 && 1",
    "n && -n && !(n == 5)",
    # elements
    "bytes[0] == 104",
    # (An element behind the end rejects with us; liblttng-ust 2.13 finds what is behind it.)
    "bytes[0] == 97 || bytes[1] == 101",
    "bytes[4] > 100 && n > 2",
    # what 2.13 does by mistake: see the notes of ustconsumer.tracer.compile
    "bytes[0] && n > 2",
    "!!f64",
    "!f64 == 0",
    "n == 3 || !f64",
    "-n && 1",
    " && ".join(f"n <= {number}" for number in range(30, 39)),
    " && ".join(f"n <= {number}" for number in range(30, 40)),
    # lengths of sequences are no fields, bits are no operand of &&
    "_bytes_length == 1",
    "(n & 1) && n",
    "i8 >> 1 > 100",
    "1 << 63 < 0",
    's > "\\\\q"',
    "'a' < s",
    "n >> 64 == 0",
    # what no event of these has, or what is no number
    "absent == 1",
    "s",
    "f64",
    "bytes == 1",
    "color == 5 || color == -1",
    # contexts
    "$ctx.vpid > 0 && $ctx.vtid == $ctx.vpid",
    "$ctx.vuid < 100000",
    '$ctx.procname == "*"',
    "$ctx.cpu_id >= 0",
    "$ctx.absent == 1",
    "$app.absent:absent == 1",
    "$ctx.pid_ns > 4000000000 && $ctx.pthread_id != 0",
]

PROGRAM = """
import sys
from ustconsumer.tracer import Provider
from ustconsumer.tracer import types as t

color = t.enumeration({"red": 0, "green": (2, 9), "none": -1}, name="color")
event = Provider("filters").tracepoint(
    "event", truncate=True, n=t.u32,
    i8=t.i8, i16=t.i16, i32=t.i32, i64=t.i64, u8=t.u8, u16=t.u16, u32=t.u32, u64=t.u64,
    f32=t.f32, f64=t.f64, s=t.string, bytes=bytes, color=color,
)
for n in range(len(sys.argv) // 3):
    integer, real, text = sys.argv[1 + 3 * n : 4 + 3 * n]
    v, d, raw = int(integer, 0), float(real), bytes.fromhex(text)
    event(n, v, v, v, v, v, v, v, v, d, d, raw.decode(), raw, v)
"""


def session(lttng: Lttng, output: Path, filters: list[str]) -> None:
    """Make a session with a channel for each filter, and one without any."""
    lttng("create", "filtered", "--output", output)
    for number, text in enumerate([None, *filters]):
        channel = f"c{number}"
        lttng("enable-channel", "-u", "--subbuf-size=16k", "--num-subbuf=2", channel)
        lttng("add-context", "-u", "-c", channel, "-t", "vpid")
        rule = ["enable-event", "-u", "-c", channel, "filters:event"]
        lttng(*rule, *(["--filter", text] if text is not None else []))
    lttng("start")


def test_same_events(apps: Apps) -> None:
    arguments = [
        part
        for integer, real, text in VALUES
        for part in (integer, real, text.encode("utf-8").hex())
    ]
    with lttng_sessiond() as lttng:
        output = lttng.rundir.home / "trace"
        session(lttng, output, FILTERS)
        for result in (
            lttng.rundir.run([apps.filters, *arguments]),
            lttng.rundir.run_python("-c", PROGRAM, *arguments),
        ):
            assert result.returncode == 0, result.stderr
        lttng("stop")
        lttng("destroy")
        passed: dict[int, dict[object, list[object]]] = defaultdict(lambda: defaultdict(list))
        for event in Trace(output):
            channel = int(event.stream.name.removeprefix("c").partition("_")[0])
            passed[channel][event.context["vpid"]].append(event.fields["n"])
    c, python = passed[0]
    everything = list(range(len(VALUES)))
    assert (passed[0][c], passed[0][python]) == (everything, everything)
    differ = {
        text: (passed[number][c], passed[number][python])
        for number, text in enumerate(FILTERS, 1)
        if passed[number][c] != passed[number][python]
    }
    assert not differ
    # Some accept and some reject: all alike would show nothing.
    accepted = [len(passed[number][python]) for number in range(1, len(FILTERS) + 1)]
    assert sum(1 for count in accepted if 0 < count < len(VALUES)) > len(FILTERS) // 2
