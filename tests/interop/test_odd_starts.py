# SPDX-License-Identifier: MIT
"""`drtrace` started at the same time as another, with closed streams, on another session."""

from __future__ import annotations

import subprocess

import pytest
from helpers.apps import Apps
from helpers.drtrace import end_registry
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers")


def test_several_create_at_once_and_share_a_registry(user_rundir: Rundir) -> None:
    names = ("one", "two", "three")
    started = [
        user_rundir.start_drtrace(
            "create", name, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name in names
    ]
    try:
        for process in started:
            _, err = process.communicate()
            assert (process.returncode, err) == (0, "")
        listed = user_rundir.drtrace("list").stdout
        assert all(f") {name} [inactive]" in listed for name in names)
    finally:
        user_rundir.drtrace("destroy", "-a")
        end_registry(user_rundir)


@pytest.mark.parametrize("closed", [">&-", "0<&- >&- 2>&-"])
def test_record_with_closed_streams(closed: str, rundir: Rundir, apps: Apps) -> None:
    argv = rundir.drtrace_argv("record", "-o", "trace", "-e", "flood:*", apps.flood, "3")
    result = rundir.run(["sh", "-c", f'exec "$@" {closed}', "sh", *argv])
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert list((rundir.home / "trace").rglob("metadata"))


def test_set_session(user_rundir: Rundir) -> None:
    drtrace = user_rundir.drtrace
    try:
        for name in ("one", "two"):
            assert drtrace("create", name).returncode == 0
        result = drtrace("set-session", "one")
        assert (result.returncode, result.stdout) == (0, "Session set to one\n")
        assert drtrace("status").stdout.startswith("Recording session one:")
        assert drtrace("set-session", "none").stderr == "Error: session 'none' not found\n"
        assert drtrace("status").stdout.startswith("Recording session one:")
    finally:
        drtrace("destroy", "-a")
        end_registry(user_rundir)
