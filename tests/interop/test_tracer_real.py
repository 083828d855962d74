# SPDX-License-Identifier: MIT
"""A Python program under the real LTTng 2.13, beside a C program with the same tracepoints."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, normal_text
from helpers.lttng import Lttng, lttng_sessiond
from helpers.puppet import Puppet
from helpers.registry import until

from ustconsumer.ctf.reading import Trace

pytestmark = pytest.mark.peers("gcc", "lttng", "lttng-sessiond", "lttng-ust-headers", "babeltrace2")

LEVELS = (
    *("emerg", "alert", "crit", "err", "warning", "notice", "info"),
    *("debug_system", "debug_program", "debug_process", "debug_module", "debug_unit"),
    *("debug_function", "debug_line", "debug"),
)
#: What tests/apps/fields.c declares and emits, as far as Python has the types.
DECLARE = f"""
from ustconsumer.tracer import Provider
from ustconsumer.tracer import types as t
i8, i16, i32, i64, u8, u16, u32, u64 = t.i8, t.i16, t.i32, t.i64, t.u8, t.u16, t.u32, t.u64
INTEGERS = dict(s8=i8, s16=i16, s32=i32, s64=i64, u8=u8, u16=u16, u32=u32, u64=u64)
PLAIN = {{"zero": 0, "one": 1, "two to nine": (2, 9), "minus three": -3,
         "far below": (-100, -50), '"quoted\\\\': 77}}
AUTOMATIC = {{"A": 0, "B": 1, "J": 10, "K": 11, "R": (20, 29), "S": 30}}
LARGE = {{"small": 1, "huge": (1 << 63, (1 << 64) - 2)}}
def label(name, labels, container):
    return t.enumeration(labels, name=name, container=container)
fields = Provider("fields")
integers = fields.tracepoint("integers", **INTEGERS, l=i64, c=i8, b=u8)
hexadecimal = fields.tracepoint("hex", **{{name: kind.hex() for name, kind in INTEGERS.items()}})
reals = fields.tracepoint("reals", f32=t.f32, f64=t.f64)
strings = fields.tracepoint("strings", text=t.string, none=t.string, after=t.string)
enumerations = fields.tracepoint(
    "enumerations",
    **{{f"e_s{{kind.size}}": label("plain", PLAIN, kind) for kind in (i8, i16, i32, i64)}},
    **{{f"e_u{{kind.size}}": label("automatic", AUTOMATIC, kind) for kind in (u8, u16, u32)}},
    e_u64=label("large", LARGE, u64),
)
names = fields.tracepoint("names", event=i32, stream=i32, _under=i32, __twice=i32, string=t.string)
empty = fields.tracepoint("empty")
shapes = [
    fields.tracepoint(
        shape, fields=dict(width=i32, name=t.string), level=level,
        model_uri=f"http://example.com/model?shape={{shape}}",
    )
    for shape, level in (("circle", "debug_line"), ("square", "notice"))
]
levels = [fields.tracepoint(name, level=name, n=i32) for name in {LEVELS!r}]
"""
EMIT = r"""
import struct
(largest,) = struct.unpack("<f", b"\xff\xff\x7f\x7f")
SAMPLES = [
    (*(-(1 << size - 1) for size in (8, 16, 32, 64)), 0, 0, 0, 0, -1.5, 1e300, "", 0),
    (*((1 << size - 1) - 1 for size in (8, 16, 32, 64)),
     *((1 << size) - 1 for size in (8, 16, 32, 64)), largest, -0.0,
     '"quotes", \\back, tab\t, h\xe9llo', ord("a")),
    (-3, 5, 77, -60, 11, 25, 30, 0x8000000000000001, 0.1, 3.141592653589793,
     "a string of some length, to see that nothing depends on it being short", ord("a")),
]
for *numbers, f32, f64, text, letter in SAMPLES:
    s32 = numbers[2]
    integers(*numbers, numbers[3], letter, s32 > 0)
    hexadecimal(*numbers)
    reals(f32, f64)
    strings(text, "(null)", "after")
    enumerations(*numbers)
    names(s32, s32, s32, s32, text)
    empty()
    for shape, width in zip(shapes, numbers[4:6]):
        shape(width, text)
    for number, level in enumerate(levels):
        level(number)
"""
#: Those of the C program that Python has no types for.
OTHERS = frozenset(f"fields:{name}" for name in ("network", "arrays", "sequences", "nowrite"))
NAME = re.compile(r"\bfields:\w+")


@pytest.fixture
def lttng() -> Iterator[Lttng]:
    with lttng_sessiond() as running:
        yield running


@contextmanager
def recording(lttng: Lttng, rules: dict[str, list[str]], buffers: str = "uid") -> Iterator[Path]:
    """Record with a channel for each rule."""
    output = lttng.rundir.home / "trace"
    lttng("create", "s", "-o", output)
    for channel, rule in rules.items():
        sizes = (f"--buffers-{buffers}", "--subbuf-size=64k", "--num-subbuf=2")
        lttng("enable-channel", "--userspace", *sizes, channel)
        lttng("add-context", "--userspace", f"--channel={channel}", "--type=vpid")
        lttng("enable-event", "--userspace", f"--channel={channel}", *rule)
    lttng("start")
    yield output
    lttng("stop")
    lttng("destroy")


def run_both(lttng: Lttng, apps: Apps) -> None:
    """Run the Python program, then the C program."""
    path = lttng.rundir.home / "program.py"
    path.write_text(DECLARE + EMIT)
    for result in (lttng.rundir.run_python(path), lttng.rundir.run([apps.fields])):
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# -- lttng list --------------------------------------------------------------------------------


def listed(text: str, pid: int) -> dict[str, list[str]]:
    """Return the lines of each event of a process."""
    (block,) = (part for part in text.split("\nPID: ") if part.startswith(f"{pid} "))
    events: dict[str, list[str]] = {}
    for line in block.splitlines()[1:]:
        if match := NAME.match(line.strip()):
            events[match[0]] = lines = [line]
        elif line.startswith("        ") and events:
            lines.append(line)
        elif line.strip():
            lines = []
    return events


def test_it_is_listed_as_a_c_program(lttng: Lttng, apps: Apps) -> None:
    puppet = Puppet(lttng.rundir)
    puppet.do(DECLARE)
    other = lttng.rundir.start([apps.fields, "1000000000"])
    text = ""
    for options in ([], ["--fields"]):

        def both(options: list[str] = options) -> bool:
            nonlocal text
            text = "\n" + lttng("list", "--userspace", *options)
            return all(f"\nPID: {pid} - Name: " in text for pid in (puppet.pid, other.pid))

        until(both, "both are listed")
        mine, theirs = listed(text, puppet.pid), listed(text, other.pid)
        assert mine == {name: theirs[name] for name in theirs if name not in OTHERS}
        assert len(mine) == 9 + len(LEVELS)
    assert mine["fields:square"] == [
        "      fields:square (loglevel: TRACE_NOTICE (5)) (type: tracepoint)",
        "        field: name (string)",
        "        field: width (integer)",
    ]
    other.kill()
    # What is taken back is listed no more.
    puppet.do("fields.close()")
    assert listed("\n" + lttng("list", "--userspace"), puppet.pid) == {}
    puppet.close()


# -- values ------------------------------------------------------------------------------------


def test_the_values_of_a_c_program(lttng: Lttng, apps: Apps) -> None:
    # A trace each: babeltrace2 2.0.4 may print the text of an earlier event for an empty one.
    with recording(lttng, {"c": ["fields:*"]}, buffers="pid") as output:
        run_both(lttng, apps)
    by_process: dict[str, list[str]] = {"P0": [], "P1": []}
    for line in normal_text(babeltrace2_text(output).lines):
        name, process = NAME.search(line), re.search(r"vpid = (P\d)", line)
        assert name, line
        assert process, line
        if name[0] not in OTHERS:
            by_process[process[1]].append(re.sub(r"cpu_id = \d+|vpid = P\d", "", line))
    assert len(by_process["P0"]) == 3 * (9 + len(LEVELS))
    assert by_process["P0"] == by_process["P1"]
    # Each as it is declared: level, URI, types of the fields.
    traces = Trace(output).traces
    mine, theirs = (
        {e.name: (e.loglevel, e.model_emf_uri, repr(e.fields)) for e in events.values()}
        for trace in sorted(traces, key=lambda trace: "python" not in trace.directory)
        for events in trace.declared.events.values()
    )
    assert mine == {name: theirs[name] for name in theirs if name not in OTHERS}
    assert mine["fields:square"][:2] == (5, "http://example.com/model?shape=square")


# -- rules -------------------------------------------------------------------------------------

RULES: dict[str, tuple[list[str], Callable[[str, int, dict[str, object]], bool]]] = {
    "all": (["--all"], lambda name, level, values: True),
    "glob": (["fields:*e*g"], lambda name, level, values: name in ("emerg", "debug")),
    "exclude": (
        ["fields:*", "--exclude=fields:debug*,fields:s*,fields:empty"],
        lambda name, level, values: not name.startswith(("debug", "s")) and name != "empty",
    ),
    "exclude_one": (
        ["fields:*", "--exclude=fields:*i*"],
        lambda name, level, values: "i" not in name,
    ),
    "loglevel": (["fields:*", "--loglevel=NOTICE"], lambda name, level, values: level <= 5),
    "loglevel_of_a_name": (
        ["fields:debug*", "--loglevel=DEBUG_MODULE"],
        lambda name, level, values: name.startswith("debug") and level <= 10,
    ),
    "loglevel_only": (
        ["fields:*", "--loglevel-only=DEBUG_FUNCTION"],
        lambda name, level, values: level == 12,
    ),
    "filter": (
        ["fields:*", "--filter", "n > 3 && n < 7 || $ctx.vpid == 0"],
        lambda name, level, values: values.get("n") in (4, 5, 6),
    ),
    "filter_text": (
        ["fields:strings", "--filter", 'text == "a*"'],
        lambda name, level, values: name == "strings" and str(values["text"]).startswith("a"),
    ),
    "filter_and_more": (
        ["fields:*", "--loglevel=INFO", "--exclude=fields:square", "--filter", "n != 2"],
        lambda name, level, values: level <= 6 and "n" in values and values["n"] != 2,
    ),
}


def test_rules(lttng: Lttng, apps: Apps) -> None:
    """What each lets pass of a Python program is what it should, and what it does of C."""
    rules = {name: rule for name, (rule, _) in RULES.items()}
    with recording(lttng, rules) as output:
        run_both(lttng, apps)
    seen: dict[str, dict[int, list[tuple[str, int, dict[str, object]]]]] = {}
    total = 0
    for event in Trace(output):
        total += 1
        provider, _, name = event.name.partition(":")
        if provider != "fields" or event.name in OTHERS:
            continue
        channel = event.stream.name.rpartition("_")[0]
        process = seen.setdefault(channel, {}).setdefault(int(str(event.context["vpid"])), [])
        assert event.loglevel is not None
        # Not a number is not equal to itself; zeros are, whatever their sign.
        process.append((name, event.loglevel, dict(event.fields)))
    assert len(babeltrace2_text(output).lines) == total
    assert set(seen) == set(RULES)
    everything = next(iter(seen["all"].values()))
    assert len(everything) == 3 * (9 + len(LEVELS))
    for channel, (_, expected) in RULES.items():
        mine, theirs = seen[channel].values()
        assert mine == theirs, channel
        assert mine == [event for event in everything if expected(*event)], channel
        assert mine, channel
