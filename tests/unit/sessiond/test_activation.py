# SPDX-License-Identifier: MIT
"""What a service manager passes: taken if it is for us, refused in a line if it is not."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sessiond.activation import ServiceManager, inherited_sockets
from sessiond.rendezvous import Rendezvous
from ustconsumer.errors import UsageError


@pytest.fixture
def rundir() -> Iterator[Path]:
    # Short: the path of a socket has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ust-", dir="/tmp") as place:
        yield Path(place)


def listening(path: Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(str(path))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


def passed(fd: int, rundir: Path, name: str = "", pid: int = 0) -> dict[str, socket.socket]:
    """Take one descriptor as systemd's variables (sd_listen_fds(3)) tell of it."""
    listen = {
        "LISTEN_PID": str(pid or os.getpid()),
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": name,
    }
    return dict(inherited_sockets(listen, rundir, fd))


@pytest.mark.parametrize(
    ("file", "name"), [("drtrace.sock", "control"), ("lttng-ust-sock-8", ""), ("drtrace.sock", "x")]
)
def test_a_socket_of_the_run_directory_is_taken(rundir: Path, file: str, name: str) -> None:
    fd = listening(rundir / file).detach()
    os.set_inheritable(fd, True)
    link = rundir / "link"
    link.symlink_to(rundir)
    (taken,) = passed(fd, link, name).items()
    assert (taken[0], taken[1].fileno()) == (file, fd)
    assert not taken[1].get_inheritable()
    assert not taken[1].getblocking()
    taken[1].close()


def _elsewhere(rundir: Path) -> int:
    (rundir / "other").mkdir()
    return listening(rundir / "other" / "drtrace.sock").detach()


CASES: dict[str, tuple[Callable[[Path], int], str]] = {
    "no socket": (lambda rundir: os.open("/dev/null", os.O_RDONLY), "is no socket"),
    "not open": (lambda rundir: 1000, "cannot be used: Bad file"),
    "of the network": (lambda rundir: socket.socket(socket.AF_INET).detach(), "no listening Unix"),
    "not listening": (lambda rundir: socket.socket(socket.AF_UNIX).detach(), "no listening Unix"),
    "datagrams": (
        lambda rundir: listening(rundir / "drtrace.sock", socket.SOCK_DGRAM).detach(),
        "no listening Unix",
    ),
    "another file": (lambda rundir: listening(rundir / "a.sock").detach(), "a registry has"),
    "another directory": (_elsewhere, "give --rundir"),
    "another's name": (
        lambda rundir: listening(rundir / "lttng-ust-sock-8").detach(),
        "FileDescriptorName= is another's",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_anything_else_is_refused(rundir: Path, case: str) -> None:
    make, reason = CASES[case]
    fd = make(rundir)
    with pytest.raises(UsageError, match=reason) as caught:
        passed(fd, rundir, "control")
    assert "\n" not in str(caught.value)
    if fd != 1000:
        os.close(fd)


def test_what_is_for_another_process_is_left_alone(rundir: Path) -> None:
    assert passed(0, rundir, "apps", pid=os.getppid()) == {}
    assert dict(inherited_sockets({}, rundir)) == {}
    with pytest.raises(UsageError, match="no numbers"):
        dict(inherited_sockets({"LISTEN_PID": "x"}, rundir))


def test_the_variables_are_not_for_who_we_start(rundir: Path) -> None:
    env = dict.fromkeys(
        ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "HOME"), "1"
    )
    ServiceManager(env)
    assert env == {"HOME": "1"}


@pytest.mark.parametrize("abstract", [False, True])
def test_it_is_told_what_sd_notify_says(rundir: Path, abstract: bool) -> None:
    address = f"@{rundir}/n" if abstract else f"{rundir}/n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address.replace("@", "\0"))
        manager = ServiceManager({"NOTIFY_SOCKET": address})
        manager.ready()
        manager.stopping()
        ready, stopping = heard.recv(4096).split(b"\n"), heard.recv(4096).split(b"\n")
    assert {b"READY=1", b"MAINPID=%d" % os.getpid()} <= set(ready)
    assert b"STOPPING=1" in stopping
    # Nobody is there any more: no reason to fail.
    manager.stopping()
    ServiceManager({}).ready()


def test_its_files_stay_its_own(rundir: Path) -> None:
    fd = listening(rundir / "drtrace.sock").detach()
    taken = passed(fd, rundir, "control")
    rendezvous = Rendezvous(rundir, "tracing", taken)
    apps, control = rendezvous.take()
    assert control is taken["drtrace.sock"]
    assert sorted(path.name for path in rundir.iterdir()) == [
        "drtrace.sock",
        "lttng-sessiond.lck",
        "lttng-ust-sock-8",
    ]
    rendezvous.leave()
    apps.close()
    control.close()
    assert [path.name for path in rundir.iterdir()] == ["drtrace.sock"]
