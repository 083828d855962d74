# SPDX-License-Identifier: MIT
"""The first screen of the README, as a new user would follow it."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from helpers.rundir import Rundir

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

ROOT = Path(__file__).resolve().parents[2]
#: What differs between any two runs and machines: times, host, CPUs, ids.
VARIES = re.compile(r"^\[[^]]*\] \([^)]*\) \S+ |cpu_id = \d+|(?<=pid = )\d+|(?<=vtid = )\d+")
TOTALS = re.compile(r"\d+ packets?, \d+ bytes, \d+\.\d+ s")


def screen() -> tuple[list[str], list[str]]:
    """Return the commands of the README's first screen and the lines they print."""
    readme = (ROOT / "README.md").read_text()
    block = readme.partition("```console\n")[2].partition("```")[0].splitlines()
    commands = [line[2:].partition("  #")[0] for line in block if line.startswith("$ ")]
    return commands, [line for line in block if not line.startswith("$ ")]


def test_the_first_screen_of_the_readme(user_rundir: Rundir) -> None:
    (install, compile_, record, view), printed = screen()
    assert install == "pip install ."
    home = user_rundir.home
    build = compile_.replace("examples", str(ROOT / "examples")).split()
    build[build.index("-o") + 1] = str(home / "shop")
    subprocess.run(build, check=True, capture_output=True, text=True)

    recorded = user_rundir.drtrace(*shlex.split(record)[1:])
    assert (recorded.returncode, recorded.stderr) == (0, "")
    shown = user_rundir.drtrace(*view.split()[1:])
    assert (shown.returncode, shown.stderr) == (0, "")

    summary, directory, *events = recorded.stdout.splitlines() + shown.stdout.splitlines()
    assert directory == str(home / "shop-trace")
    # One packet for each CPU; the time is nobody's business.
    assert TOTALS.sub("", summary) == TOTALS.sub("", printed[0])
    assert [VARIES.sub("", line) for line in events] == [VARIES.sub("", x) for x in printed[2:]]
