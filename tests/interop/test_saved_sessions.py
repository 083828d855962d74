# SPDX-License-Identifier: MIT
"""Session files: ours in LTTng, LTTng's here, and the same trace from what was loaded."""

from __future__ import annotations

import html
import re
from collections import Counter
from pathlib import Path

import pytest
from helpers.apps import Apps
from helpers.lttng import Lttng, lttng_sessiond
from helpers.registry import running_registry
from helpers.rundir import Rundir
from helpers.sides import Side, our_side
from helpers.users import User

#: What makes a session, with the options of both.
SESSION = [
    "enable-channel -u one --subbuf-size=8192 --num-subbuf=8 --switch-timer=100000"
    " --read-timer=200000 --tracefile-size=16384 --tracefile-count=3 --overwrite --buffers-pid",
    "enable-channel -u two --blocking-timeout=inf --discard --buffers-pid --monitor-timer=0",
    "add-context -u -c one -t vpid -t procname -t perf:thread:task-clock"
    " -t perf:thread:raw:r0110:mine -t $app.prov:ctx -t ip -t pthread_id",
    "track -u --vpid=1,2 --vuid=root,5 --vgid=7",
    "enable-rotation --timer=5s --size=100M",
]
EVENTS = [
    ["enable-event", "-u", "-c", "one", "a:*", "-x", "a:b,a:c", "--loglevel=INFO",
     "--filter", 'x > 1 && "<a*&>" == y'],
    ["enable-event", "-u", "-c", "one", "foo:bar", "--loglevel-only=DEBUG"],
    ["enable-event", "-u", "-c", "two", "-a"],
    ["disable-event", "-u", "-c", "one", "foo:bar"],
    ["disable-channel", "-u", "two"],
]  # fmt: skip


#: What LTTng says of domains in which nothing is recorded.
EMPTY_DOMAINS = Counter(
    line
    for kind in ("JUL", "LOG4J", "PYTHON")
    for line in (
        "<domain>",
        f"<type>{kind}</type>",
        "<buffer_type>PER_PID</buffer_type>",
        "<channels/>",
        "</domain>",
    )
)


def elements(path: Path) -> Counter[str]:
    """Return the lines of a session file: LTTng's have no order that would last."""
    return Counter(html.unescape(line.strip()) for line in path.read_text().splitlines() if line)


@pytest.mark.peers("lttng", "lttng-sessiond")
def test_lttng_loads_what_we_save_and_we_what_it_saves(user_rundir: Rundir) -> None:
    # `lttng list` ends lttng-sessiond 2.13.9 where a rule has an exclusion: files tell.
    home = user_rundir.home

    def drtrace(*arguments: str | Path) -> str:
        result = user_rundir.drtrace(*arguments)
        assert result.returncode == 0, (arguments, result.stdout, result.stderr)
        return str(result.stdout)

    with lttng_sessiond() as lttng:
        theirs = save(lttng)
        copy = home / "theirs.lttng"
        copy.write_bytes(theirs.read_bytes())
        copy.chmod(0o644)
        with running_registry(user_rundir):
            said = drtrace("load", "s", "-i", copy)
            assert said == "Session s has been loaded successfully\n"
            said = drtrace("save", "s", "-o", home / "ours")
            assert said == f"Session s saved successfully in {home / 'ours'}.\n"
            again = user_rundir.drtrace("save", "s", "-o", home / "ours")
            assert again.returncode == 1
            assert "Session file already exists" in again.stderr
            drtrace("save", "s", "-f", "-o", home / "ours")
            drtrace("destroy", "s")
        ours = home / "ours" / "s.lttng"
        assert elements(ours) == elements(theirs) - EMPTY_DOMAINS
        # LTTng enables what was disabled, of its own files too.
        wanted = loaded(lttng, theirs)
        assert loaded(lttng, ours) == wanted


def loaded(lttng: Lttng, file: Path) -> Counter[str]:
    """Return what LTTng saves of a session that it loaded from a file."""
    copy = lttng.rundir.home / "loaded.lttng"
    copy.write_bytes(file.read_bytes())
    copy.chmod(0o644)
    lttng("destroy", "s")
    lttng("load", "s", f"--input-path={copy}")
    again = lttng.rundir.home / "saved"
    lttng("save", "s", "--force", f"--output-path={again}")
    return elements(again / "s.lttng")


def save(lttng: Lttng) -> Path:
    """Have LTTng save a session with everything in it; return the file."""
    home = lttng.rundir.home
    lttng("create", "s", f"--output={home}/trace")
    for line in SESSION[:3]:
        lttng(*line.split())
    for arguments in EVENTS:
        lttng(*arguments)
    for line in SESSION[3:]:
        lttng(*line.split())
    directory = home / "saved"
    directory.mkdir()
    directory.chmod(0o777)
    lttng("save", "s", f"--output-path={directory}")
    return directory / "s.lttng"


@pytest.mark.peers("gcc", "lttng-ust-headers", "babeltrace2")
def test_what_is_loaded_records_the_same(apps: Apps, user: User) -> None:
    with our_side(apps.steps, user) as side:
        saved = side.rundir.home / "saved"
        side.do("create", "s", f"--output={side.output}")
        side.do("enable-channel", "c", "--subbuf-size=8k", "--switch-timer=1s")
        side.do("enable-event", "-c", "c", "steps:t?ck*")
        side.do("enable-event", "-c", "c", "steps:tock", "--filter", "seq > 1")
        side.do("enable-event", "-c", "c", "steps:*", "-x", "steps:tock")
        side.do("add-context", "-t", "procname", "-t", "vuid")
        side.do("track", "--name=steps")
        first = _recorded(side)
        warned = side("save", "s", "-o", str(saved))
        assert warned.returncode == 0
        assert "LTTng does not track names of programs" in warned.stderr
        side.do("destroy", "s")
        other = side.rundir.home / "again"
        side.do("load", "s", "-i", str(saved), f"--override-url={other}")
        side.output = other
        second = _recorded(side)
        side.do("destroy", "s")
    assert second == first
    assert any("tock" in line for line in first)
    assert all('procname = "steps"' in line for line in first)


def _recorded(side: Side) -> list[str]:
    side.do("start", "s")
    program = side.start()
    program.step(4)
    program.end()
    side.do("stop", "s")
    return side.events()


@pytest.mark.peers("lttng", "lttng-sessiond")
@pytest.mark.parametrize("kind", ["snapshot", "shm"])
def test_other_kinds_of_sessions(kind: str, user_rundir: Rundir) -> None:
    home = user_rundir.home
    with lttng_sessiond() as lttng:
        place = lttng.rundir.home
        if kind == "snapshot":
            lttng("create", "s", "--snapshot", f"--output={place}/trace")
            lttng("snapshot", "del-output", "snapshot-1")
            lttng("snapshot", "add-output", "--name=mine", "--max-size=10M", f"{place}/second")
        else:
            lttng("create", "s", f"--output={place}/trace", f"--shm-path={place}/shm")
        lttng("enable-channel", "-u", "one", "--buffers-pid")
        lttng("enable-event", "-u", "-c", "one", "a:b")
        directory = place / "saved"
        directory.mkdir()
        directory.chmod(0o777)
        lttng("save", "s", f"--output-path={directory}")
        theirs = directory / "s.lttng"
        copy = home / "theirs.lttng"
        copy.write_bytes(theirs.read_bytes())
        copy.chmod(0o644)
        with running_registry(user_rundir):
            for arguments in (("load", "s", "-i", copy), ("save", "s", "-o", home / "ours")):
                result = user_rundir.drtrace(*arguments)
                assert result.returncode == 0, (arguments, result.stdout, result.stderr)
            user_rundir.drtrace("destroy", "s")
        ours = home / "ours" / "s.lttng"
        assert undated(elements(ours)) == undated(elements(theirs) - EMPTY_DOMAINS)
        wanted = loaded(lttng, theirs)
        assert undated(loaded(lttng, ours)) == undated(wanted)


def undated(lines: Counter[str]) -> Counter[str]:
    """Return them without the time in names of directories; there is one to each."""
    return Counter({re.sub(r"-\d{8}-\d{6}(?=<)", "-DATE", line): n for line, n in lines.items()})
