# SPDX-License-Identifier: MIT
"""Programs that share buffers and cannot have the same contexts: the trace stays readable."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.registry import running_registry
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

# A program in C can have any number; one in Python, of `ustconsumer.tracer`, 64.
MANY = [f"$app.shop:c{number}" for number in range(65)]
PROGRAM = """
import sys
from ustconsumer.tracer import Provider
sold = Provider("shop").tracepoint("sold", number=int)
for line in sys.stdin:
    sold(number=int(line))
    print(line, end="", flush=True)
"""


def names(output: Path, channel: str) -> list[str]:
    """Return the events of a channel: only its ones have so many contexts."""
    return [
        line.split(": ", 1)[0].rpartition(" ")[2]
        for line in babeltrace2_text(output).lines
        if ("c0" in line) == (channel == "many")
    ]


@pytest.mark.parametrize("first", ["c", "python"])
def test_who_comes_first_says_what_is_recorded(rundir: Rundir, apps: Apps, first: str) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create("s", rundir.home / "trace")
        for channel in ("few", "many"):
            session.enable_channel(channel)
            session.enable_event("steps:tick", channel)
            session.enable_event("shop:sold", channel)
        session.add_context(MANY, "many")
        session.start()
        argvs = [[apps.steps], rundir.user.python("-c", PROGRAM)]
        if first == "python":
            argvs.reverse()
        programs = []
        for argv in argvs:
            programs.append(rundir.start(argv, stdin=-1, stdout=-1, text=True))
            for number in range(3):
                stdin, stdout = programs[-1].stdin, programs[-1].stdout
                assert stdin
                assert stdout
                stdin.write(f"{number}\n")
                stdin.flush()
                assert stdout.readline() == f"{number}\n"
        reasons = {app.pid: app for app in registry.client.applications()}
        late = reasons[programs[1].pid]
        assert late.sessions == ["s"]
        word = "lacks" if first == "c" else "has"
        assert "session s, channel many: not recorded: its contexts differ" in late.reason
        assert f"it {word} $app.shop:c64" in late.reason
        listed = rundir.drtrace("--rundir", rundir.path, "list", "s").stdout
        assert "1 program is recorded without context $app.shop:c64" in " ".join(listed.split())
        for program in programs:
            assert program.stdin
            program.stdin.close()
            program.wait()
        session.destroy()
    own = "steps:tick" if first == "c" else "shop:sold"
    assert sorted(names(rundir.home / "trace", "few")) == ["shop:sold"] * 3 + ["steps:tick"] * 3
    assert names(rundir.home / "trace", "many") == [own] * 3
