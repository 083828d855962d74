# SPDX-License-Identifier: MIT
"""Each option that ``lttng`` has too: the same events as with ``lttng``, of the same programs.

A case is a channel, made with the same words on both sides. All are recorded at a time, so that
a case costs its verbs and no programs of its own, and read one by one. Verbs that change a session
while programs run are in `test_runtime_verbs`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import processes
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_details, discarded, normal_text
from helpers.lttng import lttng_sessiond
from helpers.registry import running_registry
from helpers.rundir import Rundir, private_rundir
from helpers.users import User, ordinary_user_alone
from helpers.viewing import babeltrace2

pytestmark = [
    pytest.mark.peers("gcc", "lttng", "lttng-sessiond", "lttng-ust-headers", "babeltrace2"),
    pytest.mark.xdist_group("same_options"),
]

CPU = min(os.sched_getaffinity(0))
#: Two events each, of 27 bytes with their context: more than fits into small buffers.
STEPS = 500


class Case(NamedTuple):
    """A channel of its own.

    Attributes
    ----------
    events : tuple of str
        Arguments of ``enable-event``; behind a ``!`` it is refused.
    channel : str
        Options of ``enable-channel``.
    contexts : str
    session : str
        In which of `SESSIONS`.
    """

    events: tuple[str, ...]
    channel: str = ""
    contexts: str = ""
    session: str = "uid"


def on(*events: str, channel: str = "", contexts: str = "", session: str = "uid") -> Case:
    return Case(events, channel, contexts, session)


def full(channel: str, session: str = "uid") -> Case:
    """Return a case of a channel that has no room for all the steps."""
    return on("'steps:*'", channel=channel, contexts="procname", session=session)


#: Options of ``create``. The buffers of a session are of one kind.
SESSIONS = {
    "uid": "",
    "pid": "",
    "shm": "--shm-path={home}/shm",
    "snapshot": "--snapshot",
    "snapshot-pid": "--snapshot",
}
_SMALL = "--subbuf-size=4K --num-subbuf=4"
_LEVELS = ("EMERG", "WARNING", "NOTICE", "INFO", "DEBUG_SYSTEM", "DEBUG", "trace_err")
#: Those of user space: facts, application protocol 4.1. vpid and vtid are numbers of the run.
_CONTEXTS = (
    *("vpid", "vtid", "procname", "pthread_id", "ip", "vuid", "veuid", "vsuid", "vgid", "vegid"),
    *("vsgid", "cgroup_ns", "ipc_ns", "mnt_ns", "net_ns", "pid_ns", "time_ns", "user_ns", "uts_ns"),
)
CASES: dict[str, Case] = {
    "all": on("--all"),
    "pattern": on("'fields:*'"),
    "pattern-in-the-middle": on("'fields:*e*s'"),
    "patterns": on("'fields:s*,*:hex,fields:none'"),
    "two-rules-of-one-event": on("fields:hex", "'fields:h*'"),
    "several-events": on("fields:hex", "fields:reals", "fields:debug"),
    "exclude": on("'fields:*' -x 'fields:s*,*:hex,fields:debug*'"),
    "exclude-from-all": on("--all -x 'lttng_ust*,fields:[a-m]*,fields:a*'"),
    "exclude-nothing-left": on("! 'fields:hex*' --exclude='fields:*'", "fields:reals"),
    **{f"loglevel-{level}": on(f"'fields:*' --loglevel={level}") for level in _LEVELS},
    **{f"loglevel-only-{level}": on(f"'fields:*' --loglevel-only={level}") for level in _LEVELS},
    "loglevels": on("'fields:d*' --loglevel-only=DEBUG", "'fields:*' --loglevel=CRIT"),
    "filter": on("'fields:*' --filter 'n > 2 && n != 5'", "fields:hex --filter 'nothing == 1'"),
    "filter-text": on('fields:strings --filter \'text == "a*" || text == ""\''),
    "filter-context": on("'fields:*s' --filter '$ctx.procname == \"fi*\" && $ctx.vuid != 1'"),
    "filter-and-level": on("'fields:*' --loglevel=NOTICE --filter 'n & 1'"),
    "filters": on("fields:level --filter 'n == 1'", "fields:alert --filter 'n == 1'"),
    "filter-exclude": on("'fields:*' -x 'fields:e*' --filter 'n >= 0'"),
    **{f"context-{name}": on("fields:hex", contexts=name) for name in _CONTEXTS},
    "contexts": on("fields:circle", contexts="procname vpid vuid uts_ns"),
    "one-event-in-two-channels": on("fields:hex", "'fields:c*'", contexts="vtid"),
    "pid-all": on("--all", channel="--buffers-pid", contexts="vpid procname", session="pid"),
    "pid-steps": on("'steps:*'", channel="--buffers-pid --subbuf-size=16K", session="pid"),
    "discard": full(f"--discard {_SMALL}"),
    "discard-two": full("--subbuf-size=8192 --num-subbuf=2"),
    "discard-one": full("--discard --subbuf-size=16k --num-subbuf=1"),
    "discard-pid": full(f"--discard --buffers-pid {_SMALL}", "pid"),
    "overwrite": full(f"--overwrite {_SMALL}"),
    "overwrite-two": full("--overwrite --subbuf-size=8192 --num-subbuf=2"),
    "overwrite-pid": full(f"--overwrite --buffers-pid {_SMALL}", "pid"),
    **{
        option.split("=")[0]: on("'fields:*'", channel=f"--{option}")
        for option in (
            *("buffers-uid", "switch-timer=5ms", "read-timer=5ms", "monitor-timer=5ms"),
            "blocking-timeout=1s",
        )
    },
    "tracefiles": on("'steps:*'", channel="--tracefile-size=16K --subbuf-size=4K --num-subbuf=32"),
    "shm-path": on("--all", session="shm"),
    "shm-path-overwrite": full(f"--overwrite {_SMALL}", "shm"),
    "snapshot-fields": on("'fields:*'", session="snapshot"),
    "snapshot-small": full(f"--overwrite {_SMALL}", "snapshot"),
    "snapshot-two": full("--overwrite --subbuf-size=8192 --num-subbuf=2", "snapshot"),
    "snapshot-pid": full(f"--overwrite --buffers-pid {_SMALL}", "snapshot-pid"),
}
#: Values that differ between any two runs; of these it is compared what they look like.
_OF_THE_RUN = re.compile(r"\b(pthread_id|ip) = (-?)(?:0x[0-9A-F]+|\d+)")


class Recorded(NamedTuple):
    """What must be equal: of each case, and of each session."""

    events: dict[str, list[str]]
    warnings: dict[str, str]
    files: dict[str, list[str]]
    declarations: dict[str, list[str]]


def channel_alone(output: Path, name: str) -> Path:
    """Return a trace that has only what went through one channel."""
    alone = output.with_name(f"{output.name}-{name}")
    for metadata in output.rglob("metadata"):
        place = alone / metadata.parent.relative_to(output)
        place.mkdir(parents=True)
        place.joinpath("metadata").symlink_to(metadata)
        for path in metadata.parent.glob(f"{name}_[0-9]*"):
            place.joinpath(path.name).symlink_to(path)
    return alone


def declarations(details: list[str]) -> list[str]:
    """Return the classes of streams, and in them those of events by name."""
    text = "\n".join(details[: details.index("")])
    text = re.sub(r"^(\s*(?:UUID|Offset \(\w+\)): ).*$", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"(Event class `[^`]*`) \(ID \d+\)", r"\1", text)
    found = []
    for stream in re.split(r"\n(?=  Stream class )", text):
        head, *events = re.split(r"\n(?=    Event class `)", stream)
        # LTTng numbers channels in no order.
        found.append("\n".join([re.sub(r"\(ID \d+\)", "", head), *sorted(events)]))
    return sorted(found)


def comparable(outputs: dict[str, Path]) -> Recorded:
    found = Recorded({}, {}, {}, {})
    for name, case in CASES.items():
        output = babeltrace2("--no-delta", channel_alone(outputs[case.session], name))
        assert output.status == 0, output.stderr
        lines = normal_text(output.stdout.decode().splitlines())
        found.events[name] = [_OF_THE_RUN.sub(r"\1 = \2N", line) for line in lines]
        found.warnings[name] = output.stderr.decode()
    for session, place in outputs.items():
        found.files[session] = sorted(
            re.sub(r"-\d+-\d{8}-\d{6}", "-RUN", str(path.relative_to(place)))
            for path in place.rglob("*")
        )
        # Where each process has a trace, of one that both sides have.
        steps = next(place.glob("**/steps-*"), place)
        found.declarations[session] = declarations(babeltrace2_details(steps).lines)
    return found


class Side(NamedTuple):
    """LTTng or we: something that says verbs, and finds the consumers that run."""

    rundir: Rundir
    say: Callable[[list[list[str]]], None]
    consumers: Callable[[], list[int]]


_OURS = """
import json, sys
from ustconsumer.cli import main
for argv in json.load(sys.stdin):
    refused = argv[0] == "!"
    if (status := main(["-q", *argv[refused:]])) != refused:
        sys.exit(f"{argv}: {status}")
"""


@contextmanager
def our_side(user: User) -> Iterator[Side]:
    with private_rundir(user) as rundir, running_registry(rundir) as registry:

        def say(verbs: list[list[str]]) -> None:
            done = rundir.run_python("-c", _OURS, input=json.dumps(verbs), stdin=None)
            assert (done.returncode, done.stderr) == (0, ""), done

        def consumers() -> list[int]:
            sessions = registry.client.sessions()
            return [info.consumer.pid for info in sessions if info.consumer]

        yield Side(rundir, say, consumers)


@contextmanager
def lttng_side() -> Iterator[Side]:
    with lttng_sessiond() as lttng:
        rundir = lttng.rundir

        def say(verbs: list[list[str]]) -> None:
            lines = []
            for argv in verbs:
                refused = argv[0] == "!"
                line = shlex.join(["lttng", "--no-sessiond", *argv[refused:]])
                lines.append(f"if {line}; then false; fi" if refused else line)
            done = rundir.run(["sh", "-ec", "\n".join(lines)])
            assert done.returncode == 0, done

        def consumers() -> list[int]:
            pid = int((rundir.path / "lttng-sessiond.pid").read_text())
            # Children of whichever thread started them.
            threads = Path(f"/proc/{pid}/task").glob("*/children")
            children = [int(each) for path in threads for each in path.read_text().split()]
            return [pid for pid in children if "consumerd" in processes.command_line(pid)]

        yield Side(rundir, say, consumers)


def pin() -> None:
    os.sched_setaffinity(0, {CPU})


def record(side: Side, apps: Apps) -> Recorded:
    """Record the programs in all sessions."""
    rundir, verbs = side.rundir, []
    outputs = {session: rundir.home / f"trace-{session}" for session in SESSIONS}
    for session, options in SESSIONS.items():
        verbs.append(
            [
                "create",
                session,
                f"--output={outputs[session]}",
                *options.format(home=rundir.home).split(),
            ]
        )
    for name, case in CASES.items():
        of = ["-u", f"--session={case.session}"]
        verbs.append(["enable-channel", *of, name, *case.channel.split()])
        for arguments in map(shlex.split, case.events):
            refused = arguments[0] == "!"
            verb = ["enable-event", *of, f"--channel={name}", *arguments[refused:]]
            verbs.append(["!", *verb] if refused else verb)
        for context in case.contexts.split():
            verbs.append(["add-context", *of, f"--channel={name}", f"--type={context}"])
    side.say([*verbs, *(["start", session] for session in SESSIONS)])
    assert rundir.run([apps.fields], preexec_fn=pin).returncode == 0
    with steps_running(side, apps):
        side.say([["stop", session] for session in SESSIONS])
        snapshots = [session for session, options in SESSIONS.items() if "--snapshot" in options]
        # LTTng has the buffers of living processes only.
        side.say([["snapshot", "record", f"--session={session}"] for session in snapshots])
    side.say([["destroy", session] for session in SESSIONS])
    return comparable(outputs)


@contextmanager
def steps_running(side: Side, apps: Apps) -> Iterator[None]:
    """Run a program; yield when it has done all its steps."""
    pipe = subprocess.PIPE
    steps = side.rundir.start([apps.steps], stdin=pipe, stdout=pipe, text=True, preexec_fn=pin)
    assert steps.stdin
    assert steps.stdout
    for count in (1, STEPS):
        # With the first one it has registered. What full buffers lose afterwards must not
        # depend on who reads how quickly.
        stopped = side.consumers() if count > 1 else []
        assert stopped or count == 1
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            steps.stdin.write("step\n" * count)
            steps.stdin.flush()
            for _ in range(count):
                steps.stdout.readline()
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
    yield
    steps.stdin.close()
    assert steps.wait() == 0


@pytest.fixture(scope="module")
def recorded(apps: Apps) -> tuple[Recorded, Recorded]:
    """Return what LTTng and what we recorded."""
    with lttng_side() as side:
        theirs = record(side, apps)
    with ordinary_user_alone() as user, our_side(user) as side:
        ours = record(side, apps)
    return theirs, ours


@pytest.mark.parametrize("name", CASES)
def test_same_events_as_lttng(recorded: tuple[Recorded, Recorded], name: str) -> None:
    theirs, ours = recorded
    assert theirs.events[name]
    assert ours.events[name] == theirs.events[name]
    if name == "discard-one":
        # There is no packet before the loss: babeltrace2 knows no number.
        assert "may have discarded" in ours.warnings[name]
        return
    # liblttng-ust 2.13 may say of a packet that nothing was discarded before it; we mend that.
    lost = discarded(ours.warnings[name])
    if "discard" in name:
        assert lost
        assert len(ours.events[name]) + lost == 2 * (STEPS + 1)
    else:
        assert lost == 0


@pytest.mark.parametrize("session", SESSIONS)
def test_same_declarations_and_files(recorded: tuple[Recorded, Recorded], session: str) -> None:
    theirs, ours = recorded
    # LTTng's snapshots have files also of streams that are empty; we have those of ended processes.
    if "snapshot" not in session:
        assert ours.files[session] == theirs.files[session]
    assert ours.declarations[session] == theirs.declarations[session]
