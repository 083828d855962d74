# SPDX-License-Identifier: MIT
"""Buffers per process: a trace for each, which ends with it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from helpers import processes
from helpers.apps import Apps
from helpers.babeltrace import babeltrace2_text, discarded
from helpers.drtrace import end_registry
from helpers.lttng import lttng_record
from helpers.registry import RunningRegistry, running_registry, until
from helpers.rundir import Rundir

from ustconsumer.client.session import Session
from ustconsumer.client.totals import count
from ustconsumer.paths import possible_cpus
from ustconsumer.protocol.control import ChannelOptions

pytestmark = pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")

#: facts, ctf layout 1
DIRECTORY = re.compile(r"(.+)-(\d+)-(\d{8}-\d{6})(-\d+)?")


def new_session(
    registry: RunningRegistry, output: Path, event: str, buffers: str = "pid", **options: int
) -> Session:
    session = registry.client.create("s", str(output))
    sizes = {"subbuf_size": 65536, "num_subbuf": 4, **options}
    session.enable_channel("chan", ChannelOptions(buffers=buffers, **sizes))
    session.add_context(["vpid", "procname"])
    session.enable_event(event)
    return session


def traces(output: Path) -> dict[str, Path]:
    """Return the directories of traces by name."""
    return {path.name: path for path in (output / "ust" / "pid").iterdir()}


def maps_buffers(pid: int) -> bool:
    return "/memfd:ust-" in Path(f"/proc/{pid}/maps").read_text()


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("buffers", ["uid", "pid"])
def test_thirty_programs_at_once(buffers: str, rundir: Rundir, apps: Apps) -> None:
    programs, events = 30, 2000
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = new_session(registry, output, "flood:*", buffers, subbuf_size=4096, num_subbuf=2)
        session.start()
        before = descriptors(registry.process.pid)
        go = rundir.home / "go"
        started = [rundir.start([apps.flood, str(events), "--wait-start", go]) for _ in range(30)]
        until(lambda: len(session.info().processes) == programs, "all are recorded")
        go.touch()
        for program in started:
            assert program.wait() == 0
        if buffers == "pid":
            # Each trace ends with its process, while the session goes on.
            until(lambda: not session.info().streams, "the memory of all is let go")
            consumer = session.info().consumer
            assert consumer is not None
            assert not maps_buffers(consumer.pid)
            until(lambda: descriptors(registry.process.pid) <= before, "nothing of them is open")
        assert session.stop() == []
        totals = count(session)
        assert totals.processes == programs
        assert totals.recorded + totals.discarded == programs * events
        # What `list` and `status` show.
        assert session.info().channels[0].discarded == totals.discarded
        session.destroy()
        assert registry.log() == []
    reading = babeltrace2_text(output)
    assert (len(reading.lines), discarded(reading.stderr)) == (totals.recorded, totals.discarded)
    if buffers == "uid":
        assert os.listdir(output / "ust" / "uid") == [str(rundir.user.uid)]
        return
    pids = {str(program.pid) for program in started}
    found = [DIRECTORY.fullmatch(name) for name in traces(output)]
    assert {match[2] for match in found if match and match[1] == "flood"} == pids
    # One process in each, and nothing of it elsewhere.
    for name, directory in traces(output).items():
        match = DIRECTORY.fullmatch(name)
        assert match
        vpids = {re.findall(r"vpid = (\d+)", line)[0] for line in babeltrace2_text(directory).lines}
        assert vpids <= {match[2]}


def metadata_text(directory: Path) -> str:
    """Return the text in a metadata file: facts, ctf layout 4."""
    raw = (directory / "metadata").read_bytes()
    packets = (raw[at : at + 4096] for at in range(0, len(raw), 4096))
    return "".join(
        packet[37 : int.from_bytes(packet[24:28], "little") // 8].decode() for packet in packets
    )


def normal_metadata(text: str, pid: str) -> list[str]:
    """Return the blocks of metadata without what differs between two runs."""
    # The process id stands for itself: where it is not, it is missed.
    text = re.sub(rf"\b{pid}\b", "PID", text)
    for pattern, replacement in (
        (r'(\tuuid = )"[-0-9a-f]{36}"', r"\1UUID"),
        (r"(\toffset = )\d+", r"\1OFFSET"),
        (r'(_datetime = )"\d{8}T\d{6}[+-]\d{4}"', r"\1DATE"),
        (r'(\ttrace_name = )"[^"]*"', r"\1NAME"),
    ):
        text = re.sub(pattern, replacement, text)
    head, *blocks = re.split(r"\n(?=(?:event|stream) \{)", text)
    # Ids follow the order in which libraries were loaded.
    return [head, *sorted(re.sub(r"\n\tid = \d+;", "", block) for block in blocks)]


@pytest.mark.peers("lttng", "lttng-sessiond")
@pytest.mark.parametrize("mode", ["--discard", "--overwrite"])
def test_same_trace_as_lttng(mode: str, apps: Apps, user_rundir: Rundir) -> None:
    """Names, metadata text, streams and packets of a process's trace."""
    preload = ["env", "LD_PRELOAD=liblttng-ust-fork.so"]
    channel = ["--buffers-pid", mode, "--subbuf-size=64K", "--num-subbuf=4"]
    with lttng_record([*preload, apps.fields], channel=channel) as directory:
        expected = comparable(directory)
    output = user_rundir.home / "ours"
    result = user_rundir.drtrace("record", "-o", output, "-e", "*", *channel, "--", apps.fields)
    assert result.returncode == 0, result.stderr
    ours = comparable(output)
    assert ours == expected
    assert list(ours) == ["fields"]


def comparable(output: Path) -> dict[str, object]:
    """Return what must be equal of each trace, by the name of its process."""
    found: dict[str, object] = {}
    for name, directory in traces(output).items():
        match = DIRECTORY.fullmatch(name)
        assert match, name
        assert not match[4], name
        text = metadata_text(directory)
        registered = re.search(r'vpid_datetime = "(\d{8})T(\d{6})', text)
        assert registered
        assert match[3] == f"{registered[1]}-{registered[2]}"
        reading = babeltrace2_text(directory)
        assert not reading.stderr
        files = {
            str(path.relative_to(directory)): path.stat().st_size if path.suffix == ".idx" else 0
            for path in directory.rglob("*")
        }
        kinds = sorted(re.sub(r"^\[[^]]*\] \S+ ([^ ]+): .*", r"\1", line) for line in reading.lines)
        found[match[1]] = normal_metadata(text, match[2]), files, kinds
    return found


def test_a_process_is_named_by_what_it_executes(rundir: Rundir, apps: Apps) -> None:
    """One process id, a trace for each program it becomes, even twice within a second."""
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = new_session(registry, output, "*")
        session.start()
        command = ["env", "LD_PRELOAD=liblttng-ust-fork.so", "env", "env", apps.flood, "10"]
        program = rundir.start(command)
        assert program.wait() == 0
        # Dead or executing something else: nobody writes any of them.
        until(lambda: not session.info().streams, "the memory of all is let go")
        session.stop()
        session.destroy()
    found = [DIRECTORY.fullmatch(name) for name in sorted(traces(output))]
    assert [match and (match[1], match[2]) for match in found] == [
        ("env", str(program.pid)),
        ("env", str(program.pid)),
        ("flood", str(program.pid)),
    ]
    for name, directory in traces(output).items():
        lines = babeltrace2_text(directory).lines
        assert sum(" flood:tick: " in line for line in lines) == (10 if "flood" in name else 0)
        # Every program dumps its state, so none of them is empty.
        assert all(f'procname = "{name.split("-")[0]}' in line for line in lines)
        assert lines


def test_a_forked_child_goes_on_in_its_parents_trace(rundir: Rundir, apps: Apps) -> None:
    """It is not registered: the trace ends when nobody can write it any more."""
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = new_session(registry, output, "fork:tick")
        session.start()
        # The child emits after its parent is gone, so after we have seen that.
        assert rundir.start([apps.barefork, "50", "--orphan"]).wait() == 0
        until(lambda: not session.info().streams, "the child has ended, too")
        session.stop()
        session.destroy()
    (directory,) = traces(output).values()
    lines = babeltrace2_text(directory).lines
    for who in (0, 1):
        seen = [int(n) for n in re.findall(rf"who = {who}, seq = (\d+)", "\n".join(lines))]
        assert seen == list(range(50))


def test_without_a_consumer_the_trace_waits_for_one(rundir: Rundir, apps: Apps) -> None:
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = new_session(registry, output, "flood:*", subbuf_size=4096, num_subbuf=2)
        session.start(consumer=None)
        assert rundir.run([apps.flood, "10000"]).returncode == 0
        lost = session.info().channels[0].discarded
        assert 0 < lost < 10000
        assert len(session.info().streams) == possible_cpus()
        session.spawn_consumer()
        until(lambda: not session.info().streams, "it has taken everything")
        assert session.info().channels[0].discarded == lost
        session.stop()
        totals = count(session)
        assert (totals.recorded, totals.discarded) == (10000 - lost, lost)
        session.destroy()
    reading = babeltrace2_text(output)
    assert (len(reading.lines), discarded(reading.stderr)) == (10000 - lost, lost)


def test_the_last_packet_is_closed_once(rundir: Rundir, apps: Apps) -> None:
    """The end of a process after `stop` adds nothing to its trace."""
    output = rundir.home / "trace"
    ready = rundir.home / "ready"
    with running_registry(rundir) as registry:
        session = new_session(registry, output, "sleeper:*")
        session.start()
        program = rundir.start([apps.sleeper, "1", "--ready", ready])
        until(ready.exists, "the program runs")
        session.stop()

        def sizes() -> dict[str, int]:
            files = output.rglob("*")
            return {str(path): path.stat().st_size for path in files if path.is_file()}

        stopped = sizes()
        assert processes.end(program.pid)
        until(lambda: not session.info().streams, "its memory is let go")
        assert sizes() == stopped
        session.destroy()


def test_programs_come_and_go_without_an_end(rundir: Rundir, apps: Apps) -> None:
    """What the registry and the consumer keep of a process that ended does not grow."""
    output = rundir.home / "trace"
    with running_registry(rundir) as registry:
        session = new_session(registry, output, "flood:*", subbuf_size=4096, num_subbuf=2)
        session.start()
        consumer = session.info().consumer
        assert consumer is not None
        kept = []
        for _ in range(2):
            script = f"for i in 1 2 3 4 5 6 7 8 9 10; do {apps.flood} 10; done"
            assert rundir.run(["sh", "-c", script]).returncode == 0
            until(lambda: not session.info().streams, "the memory of all is let go")
            kept.append((descriptors(registry.process.pid), descriptors(consumer.pid)))
        assert kept[0] == kept[1]
        # Their records have one layout; a registry that kept each would grow.
        (description,) = session.describe()
        assert len(description.also) == 19
        session.stop()
        assert count(session).recorded == 200
        session.destroy()


@pytest.mark.peers("lttng", "lttng-sessiond")
def test_a_provider_that_is_loaded_again(user_rundir: Rundir, apps: Apps) -> None:
    """The process registers its events once more: LTTng refuses that, and records no more."""
    command = [apps.late, apps.late_provider, "10", "3"]
    preload = ["env", "LD_PRELOAD=liblttng-ust-fork.so"]
    with lttng_record([*preload, *command], channel=["--buffers-pid"]) as directory:
        theirs = babeltrace2_text(directory).lines
    output = user_rundir.home / "ours"
    result = user_rundir.drtrace("record", "-o", output, "--buffers-pid", "--", *command)
    assert (result.returncode, result.stderr) == (0, "")
    ours = babeltrace2_text(output).lines
    for lines, events in ((theirs, 10), (ours, 30)):
        found = [
            int(match[1])
            for line in lines
            if (match := re.search(r"late:tick: .* seq = (\d+)", line))
        ]
        assert found == list(range(events))


def test_a_session_has_one_kind_of_buffers(rundir: Rundir) -> None:
    rundir.drtrace("--rundir", rundir.path, "create", "mixed", "-o", rundir.home / "t")
    first = rundir.drtrace("--rundir", rundir.path, "enable-channel", "--buffers-pid", "one")
    second = rundir.drtrace("--rundir", rundir.path, "enable-channel", "--buffers-uid", "two")
    third = rundir.drtrace("--rundir", rundir.path, "enable-channel", "--buffers-pid", "three")
    end_registry(rundir)
    assert (first.returncode, second.returncode, third.returncode) == (0, 1, 0)
    assert "session mixed has buffers per pid" in second.stderr
