# SPDX-License-Identifier: MIT
"""Contexts of applications and performance counters."""

from __future__ import annotations

import re

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.lttng import lttng_sessiond
from helpers.registry import running_registry
from helpers.rundir import Rundir

PROVIDED = ("$app.shop:customer", "$app.shop:amount", "$app.shop:nobody", "vpid")
PROGRAM = """
import itertools
from ustconsumer.tracer import Provider
from ustconsumer.tracer.contexts import register
values = iter(["Anna", "Bert", "Cleo"])
amounts = iter([1, 2.5, None])
register("shop:customer", lambda: next(values))
register("shop:amount", lambda: next(amounts))
sold = Provider("shop").tracepoint("sold", number=int)
for number in range(3):
    sold(number=number)
"""


def shown(lines: list[str]) -> list[str]:
    """Return the contexts and fields of events, without the CPU and the pid."""
    return [re.sub(r"\bvpid = \d+", "vpid", line.partition("},")[2]) for line in lines]


@pytest.mark.peers("lttng", "lttng-sessiond", "babeltrace2")
def test_contexts_of_applications_are_those_of_lttng(rundir: Rundir) -> None:
    with lttng_sessiond() as lttng:
        theirs = lttng.rundir.home / "trace"
        lttng("create", "s", f"--output={theirs}")
        lttng("enable-event", "-u", "shop:*")
        lttng("add-context", "-u", *(f"--type={name}" for name in PROVIDED))
        lttng("start")
        result = lttng.rundir.run_python("-c", PROGRAM)
        assert (result.returncode, result.stderr) == (0, "")
        lttng("destroy", "s")
        wanted = shown(babeltrace2_text(theirs).lines)
    with running_registry(rundir) as registry:
        session = registry.client.create("s", rundir.home / "trace")
        session.enable_event("shop:*")
        session.add_context(PROVIDED)
        session.start()
        result = rundir.run_python("-c", PROGRAM)
        assert (result.returncode, result.stderr) == (0, "")
        session.stop()
        assert not session.info().problems
        session.destroy()
    found = shown(babeltrace2_text(rundir.home / "trace").lines)
    assert found == wanted
    assert len(found) == 3
    assert "Bert" in found[1]


@pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")
def test_a_counter_that_a_program_cannot_have_is_said(rundir: Rundir, apps: Apps) -> None:
    with running_registry(rundir) as registry:
        session = registry.client.create("s", rundir.home / "trace")
        session.enable_event("steps:tick")
        # No processor has it: perf_event_open fails for everybody.
        session.add_context(["vpid", "perf:thread:raw:rffffffffffffffff:none", "vtid"])
        warnings = session.start()
        assert not warnings
        program = rundir.start([apps.steps], stdin=-1, stdout=-1, text=True)
        assert program.stdin
        assert program.stdout
        program.stdin.write("step\n")
        program.stdin.flush()
        program.stdout.readline()
        (app,) = registry.client.applications()
        assert "without context perf:thread:raw:rffffffffffffffff:none" in app.reason
        assert app.sessions == ["s"]
        session.stop()
        again = session.start()
        assert any("perf:thread:raw:rffffffffffffffff:none" in line for line in again)
        program.stdin.close()
        program.wait()
        session.destroy()
    (line,) = babeltrace2_text(rundir.home / "trace").lines
    assert re.search(r"\{ vpid = \d+, vtid = \d+ \}", line), line
