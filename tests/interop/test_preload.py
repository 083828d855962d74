# SPDX-License-Identifier: MIT
"""``record --preload``: what each library of LTTng-UST adds to the trace of a plain program."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.drtrace import Summary
from helpers.rundir import Rundir

from ustconsumer.client.elf import find_library
from ustconsumer.client.preload import LIBRARIES

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

CALLS = 20


def record(rundir: Rundir, *arguments: str | Path) -> list[str]:
    result = rundir.drtrace("record", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    return Summary(result.stdout).check()


def names(lines: list[str]) -> Counter[str]:
    found = (re.search(r" (\w+:\w+): ", line) for line in lines)
    return Counter(match[1] for match in found if match)


# calls.c says what it does and how often; the names are those of lttng-ust(3).
@pytest.mark.parametrize(
    ("library", "pattern", "count"),
    [
        ("libc", r" lttng_ust_libc:malloc: .* size = 12345,", CALLS),
        ("pthread", r" lttng_ust_pthread:pthread_mutex_lock_req: ", CALLS),
        ("pthread", r" lttng_ust_pthread:pthread_mutex_lock_acq: ", CALLS),
        ("pthread", r" lttng_ust_pthread:pthread_mutex_unlock: ", CALLS),
        ("dl", r' lttng_ust_dl:dlopen: .* path = "[^"]*libm\.so\.6"', 1),
        # work() and main().
        ("cyg", r" lttng_ust_cyg_profile:func_entry: ", CALLS + 1),
        ("cyg", r" lttng_ust_cyg_profile:func_exit: ", CALLS + 1),
        ("cyg-fast", r" lttng_ust_cyg_profile_fast:func_entry: ", CALLS + 1),
    ],
)
def test_events_of_each_library(
    library: str, pattern: str, count: int, apps: Apps, rundir: Rundir
) -> None:
    lines = record(rundir, "--preload", library, apps.calls, str(CALLS))
    found = [line for line in lines if re.search(pattern, line)]
    if library == "pthread":
        # The libraries have locks of their own: the one that was taken most is the program's.
        locks = Counter(match[1] for line in found if (match := re.search(r"mutex = (\w+)", line)))
        assert locks.most_common(1)[0][1] == count
    else:
        assert len(found) == count


def test_several_at_once(apps: Apps, rundir: Rundir) -> None:
    lines = record(rundir, "--preload=libc,dl", "--preload", "cyg", apps.calls, "3")
    providers = {name.partition(":")[0] for name in names(lines)}
    assert {"lttng_ust_libc", "lttng_ust_dl", "lttng_ust_cyg_profile"} <= providers


def test_fork_is_added_unless_none_is_asked_for(rundir: Rundir) -> None:
    script = 'echo "$LD_PRELOAD"'
    fork, dl = (find_library(LIBRARIES[name].soname) for name in ("fork", "dl"))
    for options, expected in (
        ([], f"{fork}"),
        (["--preload=dl"], f"{dl}:{fork}"),
        (["--preload=none"], ""),
        (["--preload=none,dl"], f"{dl}"),
    ):
        result = rundir.drtrace("record", *options, "sh", "-c", script)
        assert Summary(result.stdout).before == [expected]


def test_they_come_before_those_of_the_user(rundir: Rundir) -> None:
    mine = str(find_library("libm.so.6"))
    fork = find_library(LIBRARIES["fork"].soname)
    result = rundir.drtrace("record", "sh", "-c", 'echo "$LD_PRELOAD"', env={"LD_PRELOAD": mine})
    assert Summary(result.stdout).before == [f"{fork}:{mine}"]


def test_python_forks_without_it(rundir: Rundir) -> None:
    """Our tracer follows forks by itself; who wants that of C extensions asks for it."""
    show = [*rundir.user.python()[-2:], "-c", "import os; print(os.environ.get('LD_PRELOAD'))"]
    result = rundir.drtrace("record", *show)
    assert Summary(result.stdout).before == ["None"]
    assert "made no ustconsumer.tracer.Provider" in result.stderr
    result = rundir.drtrace("record", "--preload=fork", *show)
    assert Summary(result.stdout).before == [str(find_library(LIBRARIES["fork"].soname))]


def test_a_program_that_does_not_know_of_tracing(rundir: Rundir) -> None:
    """Without the library nobody registers, and that is said; with it /bin/true does."""
    result = rundir.drtrace("record", "--preload=none", "true")
    assert result.returncode == 0
    assert Summary(result.stdout).processes == 0
    assert "no program registered: true never loaded liblttng-ust" in result.stderr
    assert names(record(rundir, "-e", "*", "true"))["lttng_ust_statedump:start"] == 1
    result = rundir.drtrace("record", "true")
    assert "true registered and emitted no event" in result.stderr
    result = rundir.drtrace("record", "-e", "app:*", "true")
    assert "no event matched app:*" in result.stderr
