# SPDX-License-Identifier: MIT
"""``record --profile``: a kind of program is recorded as its row says."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text
from helpers.drtrace import Summary
from helpers.rundir import Rundir

from ustconsumer.abi.application import CONTEXTS
from ustconsumer.client.preload import LIBRARIES
from ustconsumer.profiles import PROFILES
from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")


def record(rundir: Rundir, *arguments: str | Path) -> Summary:
    result = rundir.drtrace("record", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    return Summary(result.stdout)


def names(lines: list[str]) -> Counter[str]:
    found = (re.search(r" (\w+:\w+): ", line) for line in lines)
    return Counter(match[1] for match in found if match)


@pytest.mark.parametrize("name", PROFILES)
def test_rows_are_what_can_be_recorded(name: str, rundir: Rundir) -> None:
    row = PROFILES[name]
    assert set(row.contexts) <= set(CONTEXTS)
    assert set(row.preload) <= set(LIBRARIES)
    ChannelOptions(**row.channel)
    assert f"{name}: {row.summary.split()[0]}" in " ".join(
        rundir.drtrace("record", "--help").stdout.split()
    )


def test_ros2(apps: Apps, rundir: Rundir) -> None:
    lines = record(rundir, "--profile=ros2", apps.ros2, "50").check()
    assert names(lines) == {"ros2:callback_start": 50}
    assert [int(seq) for seq in re.findall(r"seq = (\d+)", "\n".join(lines))] == [*range(50)]
    for field in ("vpid = ", "vtid = ", 'procname = "ros2'):
        assert all(field in line for line in lines)


def test_events_and_contexts_add_to_a_profile(apps: Apps, rundir: Rundir) -> None:
    script = f"{apps.ros2} 5; {apps.flood} 7; {apps.sleeper} 0 9"
    options = ["--profile=ros2", "-e", "flood:*", "-c", "pthread_id,vpid"]
    lines = record(rundir, *options, "sh", "-c", script).check()
    assert names(lines) == {"ros2:callback_start": 5, "flood:tick": 7}
    assert all("pthread_id = " in line and "procname = " in line for line in lines)


def test_cpp(apps: Apps, rundir: Rundir) -> None:
    """Every call of a real program, and what it takes to name the functions."""
    lines = record(rundir, "--profile=cpp", apps.calls, "30").check()
    found = names(lines)
    assert found["lttng_ust_cyg_profile:func_entry"] == 31
    assert found["lttng_ust_cyg_profile:func_exit"] == 31
    assert found["lttng_ust_statedump:bin_info"] > 0
    assert found["lttng_ust_lib:load"] > 0
    assert {name.partition(":")[0] for name in found} == {
        "lttng_ust_cyg_profile",
        "lttng_ust_statedump",
        "lttng_ust_lib",
    }
    assert all(re.search(r" vpid = \d+, vtid = \d+, ip = \d+ ", line) for line in lines)


def test_dotnet_tells_the_runtime_unless_the_user_did(rundir: Rundir) -> None:
    script = "env | grep -E '^(DOTNET|COMPlus)_' | sort"
    env = {"DOTNET_LTTng": "0"}
    argv = ["record", "--json", "--profile=dotnet", "sh", "-c", f"({script}) > {rundir.home}/env"]
    result = rundir.drtrace(*argv, env=env)
    answer = json.loads(result.stdout)
    assert (rundir.home / "env").read_text().split() == [
        *("COMPlus_EnableEventLog=1", "COMPlus_LTTng=1"),
        *("DOTNET_EnableEventLog=1", "DOTNET_LTTng=0"),
    ]
    assert babeltrace2_text(answer["output"]).lines == []
