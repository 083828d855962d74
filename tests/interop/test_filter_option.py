# SPDX-License-Identifier: MIT
"""``drtrace enable-event --filter``, of C and Python programs in one session."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.apps import Apps
from helpers.drtrace import end_registry
from helpers.rundir import Rundir

from ustconsumer.ctf.reading import Trace

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers")

#: (integer, real, text), numbered from 0 as they are emitted.
VALUES = [("0", "0.5", "tea"), ("1", "1.5", "milk"), ("2", "2.5", "team"), ("3", "3.5", "tea")]
PROGRAM = """
import sys
from ustconsumer.tracer import Provider, f64, i32, string, u32

event = Provider("filters").tracepoint("event", n=u32, i32=i32, f64=f64, s=string)
for n in range(len(sys.argv) // 3):
    integer, real, text = sys.argv[1 + 3 * n : 4 + 3 * n]
    event(n, int(integer), float(real), bytes.fromhex(text).decode())
"""
FILTERS = [
    ('f64 > 1 && s == "tea*"', [2, 3]),
    ("i32 & 1", [1, 3]),
    ('!(s != "milk") || n == 0', [0, 1]),
    ("$ctx.vpid == 0", []),
    ("absent == 1", []),
]


@pytest.fixture
def drtrace(rundir: Rundir) -> Iterator[Any]:
    """Give ``drtrace`` with a registry of its own."""
    yield lambda *line: rundir.drtrace("--rundir", rundir.path, *line)
    if (rundir.path / "drtrace.sock").exists():
        end_registry(rundir)


def test_filters(drtrace: Any, rundir: Rundir, apps: Apps) -> None:
    def succeeds(*line: Any) -> str:
        result = drtrace(*line)
        assert (result.returncode, result.stderr) == (0, "")
        output: str = result.stdout
        return output

    trace = rundir.home / "trace"
    succeeds("create", "demo", "-o", trace)
    for number, (text, _) in enumerate(FILTERS):
        succeeds("enable-channel", "-u", "--subbuf-size=16k", f"c{number}")
        succeeds("add-context", "-u", "-c", f"c{number}", "-t", "vpid")
        rule = ("enable-event", "-u", "filters:*", "-c", f"c{number}")
        # lttng's words.
        said = f"Event filters:*: Filter '{text}' successfully set\n"
        assert succeeds(*rule, "--filter", text) == said
    shown = succeeds("list", "demo")
    for text, _ in FILTERS:
        assert f"filters:* (type: tracepoint) [enabled] [filter: '{text}']\n" in shown
    succeeds("start")
    values = [
        part for integer, real, text in VALUES for part in (integer, real, text.encode().hex())
    ]
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for command in ([apps.filters], [sys.executable, "-P", "-c", PROGRAM]):
        result = rundir.run([*command, *values], env=environment)
        assert (result.returncode, result.stderr) == (0, "")
    succeeds("destroy")
    passed: dict[str, dict[object, list[object]]] = {f"c{n}": {} for n in range(len(FILTERS))}
    for event in Trace(trace):
        channel = event.stream.name.rpartition("_")[0]
        passed[channel].setdefault(event.context["vpid"], []).append(event.fields["n"])
    for number, (text, expected) in enumerate(FILTERS):
        assert list(passed[f"c{number}"].values()) == ([expected] * 2 if expected else []), text


@pytest.mark.parametrize("text", ["", "n ==", "n + 1 == 2", '"text"', "n == 0u", "\x07"])
def test_what_is_no_filter_changes_nothing(drtrace: Any, text: str) -> None:
    assert drtrace("create", "demo").returncode == 0
    result = drtrace("enable-event", "-u", "a:*", "--filter", text)
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert "filter, column " in line
    assert "a:*" not in drtrace("list", "demo").stdout
