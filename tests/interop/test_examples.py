# SPDX-License-Identifier: MIT
"""The first screen of the README, as a new user would follow it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.peers import need_namespaces
from helpers.registry import running_registry
from helpers.rundir import Rundir

from ustconsumer.client.registry import connect

ROOT = Path(__file__).resolve().parents[2]
#: What differs between any two runs and machines: times, host, CPUs, ids.
VARIES = re.compile(r"^\[[^]]*\] \([^)]*\) \S+ |cpu_id = \d+|(?<=pid = )\d+|(?<=vtid = )\d+")
TOTALS = re.compile(r"\d+ packets?, \d+ bytes, \d+\.\d+ s")


def blocks() -> list[tuple[list[str], list[str]]]:
    """Return the commands of each console block of the README, and the lines they print."""
    readme = (ROOT / "README.md").read_text()
    found = []
    for text in re.findall(r"```console\n(.*?)```", readme, re.DOTALL):
        lines = text.splitlines()
        commands = [line[2:].partition("  #")[0] for line in lines if line.startswith("$ ")]
        found.append((commands, [line for line in lines if not line.startswith("$ ")]))
    return found


#: Runs the rest of its arguments where nothing of LTTng or babeltrace2 is to be seen.
HIDE = """
set -e
place=$1; shift
mount -t tmpfs tmpfs "$place"
for directory in /usr/bin /usr/lib /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/local/lib; do
    [ -d "$directory" ] && [ ! -L "$directory" ] || continue
    ls "$directory" | grep -E 'lttng|babeltrace' >/dev/null || continue
    layer=$place/$(echo "$directory" | tr / _)
    mkdir "$layer" "$layer/upper" "$layer/work"
    mount -t overlay -o "lowerdir=$directory,upperdir=$layer/upper,workdir=$layer/work" \\
        overlay "$directory"
    find "$directory" -maxdepth 1 ! -type d \\( -name '*lttng*' -o -name '*babeltrace*' \\) \\
        -exec rm -f {} +
done
exec "$@"
"""


def without_lttng(rundir: Rundir, command: list[str]) -> str:
    """Run a command with LTTng's packages hidden; return what it printed."""
    place = rundir.home / "hidden"
    place.mkdir(exist_ok=True)
    own_mounts = ("-m",) if os.getuid() == 0 else ("-cm", "--keep-caps")
    need_namespaces(*own_mounts)
    hide = ["unshare", *own_mounts, "bash", "-c", HIDE, "hide", str(place)]
    result = subprocess.run(
        [*hide, *command], env=rundir.env, cwd=rundir.home, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_the_first_minute_with_nothing_of_lttng(user_rundir: Rundir) -> None:
    """The README's first commands, twice, where no package of LTTng's is installed."""
    (install, view), printed = blocks()[0]
    *set_up, record = install.split(" && ")
    assert set_up == ["python3 -m venv venv", ". venv/bin/activate", "pip install ."]
    names = without_lttng(user_rundir, ["sh", "-c", "ls /usr/bin /usr/lib/*/*.so*"])
    assert "bash\n" in names
    assert re.findall(r"^(?:lttng|babeltrace).*|.*/lib(?:lttng|babeltrace).*", names, re.M) == []
    for _ in range(2):
        python, example = shlex.split(record)[-2:]
        assert (python, example) == ("python", "examples/hello.py")
        # Without what makes the tester that user: drtrace is it already.
        program = [*user_rundir.user.python()[-2:], str(ROOT / example)]
        told = without_lttng(user_rundir, user_rundir.drtrace_argv("record", "--", *program))
        hello, summary, directory = told.splitlines()
        assert (hello, directory.rpartition("/")[0]) == (
            printed[0],
            str(user_rundir.home / "lttng-traces"),
        )
        assert TOTALS.sub("", summary) == TOTALS.sub("", printed[1])
        # The newest one.
        assert view == "drtrace view | head -n 3"
        lines = without_lttng(user_rundir, user_rundir.drtrace_argv("view")).splitlines()
        assert len(lines) == 300
        assert [short(line) for line in lines[:3]] == [short(line) for line in printed[3:]]
        time.sleep(1.1)  # directories are named after the second


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_the_flight_recorder_as_in_the_readme(user_rundir: Rundir) -> None:
    ((compile_, *_), _), ((record,), printed) = blocks()[1], blocks()[3]
    _compile(compile_, user_rundir)
    recorded = user_rundir.drtrace(*shlex.split(record)[1:])
    assert (recorded.returncode, recorded.stderr) == (128 + signal.SIGSEGV, "")
    summary, directory = recorded.stdout.splitlines()
    assert TOTALS.sub("", summary) == TOTALS.sub("", printed[0])
    numbers = re.compile(r"\d+")
    shown = printed[1].replace("/home/me", str(user_rundir.home))
    assert numbers.sub("", directory) == numbers.sub("", shown)
    assert len(user_rundir.drtrace("view").stdout.splitlines()) == 3


def test_what_the_readme_shows_of_the_program() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0]
    assert shown in (ROOT / "examples" / "hello.py").read_text()


def test_the_example_that_prints_notifications(rundir: Rundir) -> None:
    with running_registry(rundir):
        program = rundir.start_python(
            *(ROOT / "examples" / "notifications.py", "shop:*", "number", "item", "nothing"),
            env={"LTTNG_UST_CTL_PATH": str(rundir.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert program.stdout is not None
        assert program.stdout.readline() == "listening\n"
        hello = rundir.start_python(ROOT / "examples" / "hello.py", stdout=subprocess.DEVNULL)
        items = ["tea", "milk", "sugar"]
        for number in range(300):
            values = {"number": number, "item": items[number % 3], "nothing": None}
            assert program.stdout.readline() == f"pid {hello.pid}: {values}\n"
        assert hello.wait() == 0
        # It removes its trigger.
        program.send_signal(signal.SIGINT)
        assert program.wait() == 0
        with connect(rundir.path) as registry:
            assert registry.triggers() == []


def _compile(command: str, rundir: Rundir) -> None:
    build = command.replace("examples", str(ROOT / "examples")).split()
    build[build.index("-o") + 1] = str(rundir.home / "shop")
    subprocess.run(build, check=True, capture_output=True, text=True)


def short(line: str) -> str:
    """Return a line of `view` without what differs between runs and machines."""
    return re.sub(r'procname = "[^"]*"', "", VARIES.sub("", line))


@pytest.mark.peers("gcc", "lttng-ust-headers")
def test_a_c_program_as_in_the_readme(user_rundir: Rundir) -> None:
    (compile_, record, view), printed = blocks()[1]
    home = user_rundir.home
    _compile(compile_, user_rundir)

    recorded = user_rundir.drtrace(*shlex.split(record)[1:])
    assert (recorded.returncode, recorded.stderr) == (0, "")
    shown = user_rundir.drtrace(*view.split()[1:])
    assert (shown.returncode, shown.stderr) == (0, "")

    summary, directory, *events = recorded.stdout.splitlines() + shown.stdout.splitlines()
    assert directory == str(home / "shop-trace")
    # One packet for each CPU; the time is nobody's business.
    assert TOTALS.sub("", summary) == TOTALS.sub("", printed[0])
    assert [VARIES.sub("", line) for line in events] == [VARIES.sub("", x) for x in printed[2:]]
