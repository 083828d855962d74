# SPDX-License-Identifier: MIT
"""Whose credentials a consumer has; which one is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sessiond.spawner import Program

_ASK = """
import os, sys, threading
from sessiond.spawner import _become
_become(int(sys.argv[1]), int(sys.argv[2]), len(sys.argv) > 3)
print(*os.getresuid(), *os.getresgid(), *os.getgroups())
"""


@pytest.mark.parametrize("uid", [0, 54321])
def test_a_consumer_is_its_sessions_owner_for_good(uid: int) -> None:
    """Root's registry gives all three ids and the groups away; any other has its own only."""
    answer = subprocess.run(
        [sys.executable, "-P", "-c", _ASK, str(uid), str(uid)],
        capture_output=True,
        text=True,
        check=True,
    )
    said = [int(word) for word in answer.stdout.split()]
    if os.getuid() == 0 and uid:
        assert said == [uid] * 6
    else:
        assert said[:6] == [*os.getresuid(), *os.getresgid()]


def test_one_that_has_others_buffers_is_its_owner_for_files_only(tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("only root can be somebody else")
    tmp_path.chmod(0o700)
    (tmp_path / "roots").write_text("secret")
    place = tmp_path / "theirs"
    place.mkdir()
    os.chown(place, 54321, 54321)
    # However many there are between it and the one for everybody.
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_mode & 0o1000:
            break
        directory.chmod(0o711)
    (tmp_path / "roots").chmod(0o600)
    use = """
def use():
    open(f"{sys.argv[3]}/theirs/file", "w").close()
    try:
        open(f"{sys.argv[3]}/roots")
    except PermissionError:
        print("denied")
thread = threading.Thread(target=use)
thread.start()
thread.join()
try:
    open(f"{sys.argv[3]}/new", "w")
except PermissionError:
    print("denied")
"""
    answer = subprocess.run(
        [sys.executable, "-P", "-c", _ASK + use, "54321", "54321", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    ids, *said = answer.stdout.splitlines()
    # Nobody but root may trace or signal it.
    assert ids.split()[:6] == ["0"] * 6
    assert said == ["denied", "denied"]
    made = (place / "file").stat()
    assert (made.st_uid, made.st_gid) == (54321, 54321)


def test_options_become_arguments() -> None:
    assert Program("disk").argv("s") == ["disk", "s"]
    assert Program("disk", workers=4, direct=True).argv("s") == [
        "disk",
        "s",
        "--workers",
        "4",
        "--direct",
    ]


#: Its consumer waits for ever: whom it asks does not answer.
KILLING = """
import select, socket, sys
from sessiond.spawner import Program, start_spawner

rundir = sys.argv[1]
registry = socket.socket(socket.AF_UNIX)
registry.bind(rundir + "/drtrace.sock")
registry.listen()
spawner = start_spawner(rundir, [registry.fileno()])

def events():
    select.select([spawner.fd], [], [], 60)
    return spawner.read_events()

number = spawner.spawn("s", Program("disk"), 0, 0)
((_, pid, status),) = events()
assert status is None
peer, _ = registry.accept()
spawner.kill(number + 1)
assert not select.select([spawner.fd], [], [], 0.2)[0]
spawner.kill(number)
print(events() == [(number, pid, -9)])
"""


def test_a_consumer_is_killed_by_its_number(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-P", "-c", KILLING, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (result.stdout, result.stderr) == ("True\n", "")
