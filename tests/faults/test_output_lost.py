# SPDX-License-Identifier: MIT
"""An output that turns out unusable only when packets come."""

from __future__ import annotations

import pytest
from helpers.apps import Apps
from helpers.registry import running_registry
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers")


def test_who_stops_the_session_is_told_why_its_trace_is_missing(rundir: Rundir, apps: Apps) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = registry.client.create("lost", str(output))
        session.enable_event("flood:tick")
        # After `create` had a look at it, something takes the place of its directory.
        output.mkdir()
        (output / "ust").write_text("not a directory")
        session.start()
        program = rundir.run([apps.flood, "1000"])
        assert (program.returncode, program.stderr) == (0, "")
        warnings = session.stop()
        assert [line for line in warnings if str(output / "ust") in line], warnings
        problems = session.info().problems
        assert len(problems) == 1
        assert str(output / "ust") in problems[0]
        shown = rundir.drtrace("--rundir", rundir.path, "list", "lost").stdout
        assert f"Problem:      {problems[0]}" in shown
        session.destroy()
    assert (output / "ust").read_text() == "not a directory"
