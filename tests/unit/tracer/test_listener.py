# SPDX-License-Identifier: MIT
"""The thread of a traced program, in programs of their own, against a daemon of a few lines."""

from __future__ import annotations

import ast
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.fakedaemon import FakeDaemon, Registered, exactly
from helpers.puppet import ONE_PLACE, Puppet
from helpers.registry import until
from helpers.rundir import Rundir

from ustconsumer.protocol import application

FOREVER = {"LTTNG_UST_REGISTER_TIMEOUT": "-1"}


@pytest.fixture
def daemon(rundir: Rundir) -> Iterator[FakeDaemon]:
    with FakeDaemon(rundir.path, rundir.home / "word") as daemon:
        yield daemon


def program(rundir: Rundir, *options: str, env: dict[str, str] | None = None) -> Puppet:
    puppet = Puppet(rundir, *options, env=env)
    puppet.do(ONE_PLACE)
    return puppet


def registered(daemon: FakeDaemon, puppet: Puppet) -> Registered:
    """Return the puppet, past its start."""
    puppet.begin("process.start()")
    link = daemon.register()
    link.done()
    puppet.answer()
    return link


# -- registration --------------------------------------------------------------------------


def test_registration(rundir: Rundir, daemon: FakeDaemon) -> None:
    puppet = program(rundir)
    link = registered(daemon, puppet)
    comm = Path(f"/proc/{puppet.pid}/comm").read_text().rstrip("\n")
    for socket_type, said in enumerate(link.said):
        assert (said.major, said.pid, said.uid, said.gid) == (
            *(9, puppet.pid),
            *(os.getuid(), os.getgid()),
        )
        assert (said.socket_type, said.name) == (socket_type, comm)
        assert application.refusal(said) == ""
    assert puppet.eval("listener.registered()") == [str(rundir.path)]
    assert puppet.eval("listener.last_error") is None
    puppet.close()
    assert link.gone()


def test_start_waits_until_the_registry_is_done(rundir: Rundir, daemon: FakeDaemon) -> None:
    puppet = program(rundir, env=FOREVER)
    puppet.begin("answer = 1; process.start()")
    link = daemon.register()
    assert application.reply_version(link.do(application.tracer_version())) == "2.13.5"
    assert not puppet.ready()
    link.done()
    assert puppet.answer() == 1
    puppet.close()


@pytest.mark.parametrize("timeout", ["0", "50"])
def test_start_does_not_wait_for_ever(rundir: Rundir, daemon: FakeDaemon, timeout: str) -> None:
    puppet = program(rundir, env={"LTTNG_UST_REGISTER_TIMEOUT": timeout})
    puppet.do("process.start()")
    link = daemon.register()
    assert puppet.eval("listener.registered()") == []
    link.done()
    until(lambda: puppet.eval("listener.registered()"), "late registration")
    puppet.close()


def test_registry_that_leaves_lets_the_program_go_on(rundir: Rundir, daemon: FakeDaemon) -> None:
    puppet = program(rundir, env=FOREVER)
    puppet.begin("process.start()")
    daemon.register().close()
    puppet.answer()
    puppet.close()


def test_no_registry(rundir: Rundir) -> None:
    """It does not wait, and nothing ticks."""
    puppet = program(rundir, env=FOREVER)
    puppet.do("process.start()")
    until(lambda: puppet.eval("asleep()"), "sleep")
    before = puppet.eval("switches()")
    assert len(before) == 1
    time.sleep(0.5)
    assert puppet.eval("switches()") == before
    puppet.close()


@pytest.mark.parametrize("kernel", ["today's", "before 5.16"])
def test_registry_after_the_program(rundir: Rundir, kernel: str) -> None:
    puppet = program(rundir)
    if kernel != "today's":
        puppet.do("listener._words.together = False")
    puppet.do("process.start()")
    idle = puppet.eval("switches()")
    for _ in range(2):
        # The second time after one that ended.
        with FakeDaemon(rundir.path, rundir.home / "word") as daemon:
            link = daemon.register()
            link.done()
            until(lambda: puppet.eval("listener.registered()"), "registration")
            link.close()
        until(lambda: not puppet.eval("listener.registered()"), "end of the connection")
    assert [tid for tid, _ in puppet.eval("switches()")] == [tid for tid, _ in idle]
    puppet.close()


def test_two_registries_at_once(rundir: Rundir, daemon: FakeDaemon) -> None:
    puppet = program(rundir)
    other = rundir.home / "other"
    puppet.do(
        "module.places = lambda: [Place(home + '/other', home + '/word2'), "
        "Place(home + '/.lttng', home + '/word')]"
    )
    link = registered(daemon, puppet)
    until(lambda: puppet.eval("asleep()"), "it waits for the one")
    with FakeDaemon(other, rundir.home / "word2") as second:
        # While the first one's sockets are watched, the second's word is looked at.
        late = second.register()
        late.done()
        until(lambda: len(puppet.eval("listener.registered()")) == 2, "both")
        for each in (link, late):
            assert application.reply_version(each.do(application.tracer_version())) == "2.13.5"
        late.close()
        until(lambda: len(puppet.eval("listener.registered()")) == 1, "one of them")
    assert application.reply_version(link.do(application.tracer_version())) == "2.13.5"
    puppet.close()


# -- commands -------------------------------------------------------------------------------


def test_commands_in_pieces(rundir: Rundir, daemon: FakeDaemon) -> None:
    link = registered(daemon, program(rundir))
    (step,) = application.tracer_version().steps
    for at in range(0, len(step.data), 17):
        link.command.sendall(step.data[at : at + 17])
    raw = exactly(link.command, application.REPLY_SIZE)
    reply = application.parse_reply(raw, application.tracer_version())
    assert application.reply_version(reply) == "2.13.5"


def test_commands_at_once(rundir: Rundir, daemon: FakeDaemon) -> None:
    link = registered(daemon, program(rundir))
    command = application.tracer_version()
    link.command.sendall(command.steps[0].data * 20)
    for _ in range(20):
        application.parse_reply(exactly(link.command, application.REPLY_SIZE), command)


def test_unknown_handle_means_registering_again(rundir: Rundir, daemon: FakeDaemon) -> None:
    puppet = program(rundir)
    link = registered(daemon, puppet)
    for _ in range(3):
        link.command.sendall(application.enable(77).steps[0].data)
        assert link.gone()
        link = daemon.register()
    # That is no way to keep a program busy.
    link.command.sendall(application.enable(77).steps[0].data)
    assert link.gone()
    assert puppet.eval("type(listener.last_error).__name__") == "RemoteProtocolError"
    until(lambda: puppet.eval("listener._links[0].connection is None"), "clearing up")
    assert puppet.eval("0 < listener._links[0].due() <= 60")
    puppet.close()


def test_notify_socket_alone_closed(rundir: Rundir, daemon: FakeDaemon) -> None:
    link = registered(daemon, program(rundir))
    link.notify.close()
    assert link.gone()


@pytest.mark.parametrize("count", [0, 2])
def test_wrong_number_of_descriptors(rundir: Rundir, daemon: FakeDaemon, count: int) -> None:
    puppet = program(rundir)
    link = registered(daemon, puppet)
    before = puppet.eval("len(os.listdir('/proc/self/fd'))")
    link.command.sendall(struct.pack("<II604x", 0, 0x46))
    assert exactly(link.command, application.REPLY_SIZE) == struct.pack("<II316x", 0, 0x46)
    reading, writing = os.pipe()
    if count:
        socket.send_fds(link.command, [b"\0"], [writing] * count)
    else:
        link.command.sendall(b"\0")
    os.close(reading)
    os.close(writing)
    assert link.gone()
    link = daemon.register()
    link.done()
    until(lambda: puppet.eval("len(os.listdir('/proc/self/fd'))") == before, "descriptors closed")
    puppet.close()


def test_descriptors_arrive(rundir: Rundir, daemon: FakeDaemon) -> None:
    puppet = program(rundir)
    link = registered(daemon, puppet)
    command = struct.pack("<II604x", 0, 0x46)
    link.command.sendall(command)
    assert exactly(link.command, application.REPLY_SIZE) == struct.pack("<II316x", 0, 0x46)
    reading, writing = os.pipe()
    socket.send_fds(link.command, [b"\0"], [writing])
    os.close(writing)
    raw = exactly(link.command, application.REPLY_SIZE)
    assert struct.unpack_from("<IIii", raw) == (0, 0x46, 0, 1)
    # The group keeps the pipe open, until it is released.
    assert link.do(application.release(1)).ret_code == 0
    assert os.read(reading, 1) == b""
    os.close(reading)
    puppet.close()


def test_signals_are_the_programs(rundir: Rundir, daemon: FakeDaemon) -> None:
    puppet = program(rundir)
    registered(daemon, puppet)
    ((tid, _),) = puppet.eval("switches()")
    masks = {}
    for task in (puppet.pid, tid):
        lines = Path(f"/proc/{puppet.pid}/task/{task}/status").read_text().splitlines()
        masks[task] = next(int(line.split()[1], 16) for line in lines if line[:7] == "SigBlk:")
    # 32 and 33 are the C library's own, 9 and 19 nobody's.
    everything = (1 << 64) - 1 & ~sum(1 << n - 1 for n in (9, 19, 32, 33))
    assert masks[tid] & everything == everything
    assert masks[puppet.pid] == 0
    puppet.close()


def test_declaring_when_the_registry_has_left(rundir: Rundir, daemon: FakeDaemon) -> None:
    """A program that has SIGPIPE kill it, as filters do, is not killed for our writing."""
    puppet = program(rundir)
    link = registered(daemon, puppet)
    puppet.do("import signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL)")
    # As who declares a tracepoint: with the lock, so that our thread does not clear up.
    puppet.do("process.lock.acquire(); connection = listener._links[0].connection")
    link.notify.close()
    answer = puppet.do(
        """
from ustconsumer.protocol.tracer import ChannelRequest
try:
    connection._notify.channel(ChannelRequest(1, 2, ()))
except OSError as error:
    answer = type(error).__name__
process.lock.release()
"""
    )
    assert answer in ("BrokenPipeError", "ConnectionResetError")
    assert link.gone()
    puppet.close()


# -- an explicit registry ---------------------------------------------------------------------


def test_attach_and_detach(rundir: Rundir) -> None:
    puppet = program(rundir)
    other = rundir.home / "other"
    with FakeDaemon(other) as daemon:
        for _ in range(2):
            puppet.begin("module.attach(home + '/other'); answer = listener.registered()")
            link = daemon.register()
            link.done()
            assert puppet.answer() == [str(other)]
            puppet.do("module.attach(home + '/other')")  # is there already
            began = time.monotonic()
            puppet.do("module.detach(home + '/other')")
            assert time.monotonic() - began < 9
            assert link.gone()
            assert puppet.eval("listener.registered()") == []
    puppet.close()


ATTACH = """
try:
    module.attach(home + '/other')
except OSError as error:
    answer = type(error).__name__
"""


def test_attach_to_nobody(rundir: Rundir) -> None:
    puppet = program(rundir)
    assert puppet.do(ATTACH) == "OSError"
    with FakeDaemon(rundir.home / "other") as daemon:
        puppet.begin(ATTACH)
        daemon.register().close()
        assert puppet.answer() == "OSError"
    assert puppet.eval("len(listener._links)") == 1
    puppet.close()


def test_attach_to_a_registry_that_says_nothing(rundir: Rundir) -> None:
    puppet = program(rundir, env={"LTTNG_UST_REGISTER_TIMEOUT": "100"})
    with FakeDaemon(rundir.home / "other") as daemon:
        assert puppet.do(ATTACH) == "TimeoutError"
        assert daemon.register().gone()
    assert puppet.eval("len(listener._links)") == 1
    puppet.close()


# -- forks ---------------------------------------------------------------------------------

#: A child that does nothing until nobody writes to a FIFO any more.
CHILD = """
pid = os.fork()
if pid == 0:
    os.read(os.open({fifo!r}, os.O_RDONLY), 1)
    os._exit(0)
answer = pid
"""

FORK = """
pid = os.fork()
if pid == 0:
    _obey_more = listener.registered()
    os.write({out}, repr((os.getpid(), _obey_more, len(tasks()))).encode())
    os._exit(0)
answer = pid
"""


def test_fork(rundir: Rundir, daemon: FakeDaemon) -> None:
    """The child registers itself; the parent's connection goes on, even inside a command."""
    puppet = program(rundir)
    link = registered(daemon, puppet)
    (step,) = application.tracer_version().steps
    link.command.sendall(step.data[:300])
    path = rundir.home / "child"
    puppet.do(f"out = os.open({str(path)!r}, os.O_CREAT | os.O_WRONLY)")
    puppet.begin(FORK.replace("{out}", "out"))
    child = daemon.register()
    pid = puppet.answer()
    assert (child.said[0].pid, child.said[0].ppid) == (pid, puppet.pid)
    link.command.sendall(step.data[300:])
    raw = exactly(link.command, application.REPLY_SIZE)
    reply = application.parse_reply(raw, application.tracer_version())
    assert application.reply_version(reply) == "2.13.5"
    child.done()
    # Its own descriptors of the parent's sockets are closed, and it is a program as any other.
    assert child.gone()
    puppet.do("os.waitpid(pid, 0)")
    assert ast.literal_eval(path.read_text()) == (pid, [str(rundir.path)], 2)
    assert puppet.eval("listener.registered()") == [str(rundir.path)]
    puppet.close()
    assert link.gone()


def test_fork_by_who_holds_the_lock(rundir: Rundir, daemon: FakeDaemon) -> None:
    """A signal handler forks in the middle of a declaration, while a command waits."""
    puppet = program(rundir)
    link = registered(daemon, puppet)
    puppet.do("process.lock.acquire()")
    command = application.tracer_version()
    link.command.sendall(command.steps[0].data)
    # Received, and not obeyed: the lock is held.
    until(
        lambda: puppet.eval("listener._links[0].connection.again"), "the command waits for the lock"
    )
    began = time.monotonic()
    puppet.begin("pid = os.fork()\nif pid == 0:\n    os._exit(0)\nos.waitpid(pid, 0)")
    daemon.register().done()
    puppet.answer()
    # Neither waited for the other for as long as that is allowed to last.
    assert time.monotonic() - began < 9
    puppet.do("process.lock.release()")
    raw = exactly(link.command, application.REPLY_SIZE)
    assert application.reply_version(application.parse_reply(raw, command)) == "2.13.5"
    puppet.close()


def test_child_holds_no_socket_of_its_parent(rundir: Rundir, daemon: FakeDaemon) -> None:
    puppet = program(rundir)
    link = registered(daemon, puppet)
    # The child lives for as long as the test holds the other end of its pipe.
    fifo = rundir.home / "fifo"
    os.mkfifo(fifo)
    puppet.begin(CHILD.format(fifo=str(fifo)))
    child = daemon.register()
    child.done()
    holding = os.open(fifo, os.O_WRONLY)
    puppet.answer()
    puppet.process.kill()
    # Would not end if the child, still alive, had it open.
    assert link.gone()
    assert application.reply_version(child.do(application.tracer_version())) == "2.13.5"
    os.close(holding)
    assert child.gone()


def test_no_thread_while_forking(rundir: Rundir, daemon: FakeDaemon) -> None:
    """Python 3.12 warns of threads: 3.12 counts before the handlers of the parent, 3.13 after."""
    puppet = program(rundir, "-W", "always")
    puppet.do("seen = []\ndef see(when):\n    seen.append((when, len(tasks())))")
    # Handlers before run last come first served: this one runs when ours has ended.
    puppet.do("os.register_at_fork(before=lambda: see('early'))")
    link = registered(daemon, puppet)
    puppet.do(
        "os.register_at_fork(before=lambda: see('late'), after_in_parent=lambda: see('parent'))"
    )
    for _ in range(2):
        puppet.begin(
            "pid = os.fork()\nif pid == 0:\n    os._exit(0)\nsee('after')\nos.waitpid(pid, 0)"
        )
        daemon.register().done()
        puppet.answer()
        assert puppet.eval("seen") == [("late", 2), ("early", 1), ("parent", 1), ("after", 2)]
        puppet.do("seen.clear()")
    assert application.reply_version(link.do(application.tracer_version())) == "2.13.5"
    puppet.close()


def test_fork_in_another_thread(rundir: Rundir, daemon: FakeDaemon) -> None:
    """The main thread, which waits for that thread, starts nothing meanwhile."""
    puppet = program(rundir)
    link = registered(daemon, puppet)
    puppet.do("import threading\ngo = threading.Event()")
    puppet.begin(
        """
def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    go.wait()
thread = threading.Thread(target=fork)
thread.start()
"""
    )
    daemon.register().done()
    puppet.answer()
    puppet.begin("thread.join()")
    assert application.reply_version(link.do(application.tracer_version())) == "2.13.5"
    puppet.process.kill()


def test_forks_of_several_threads(rundir: Rundir) -> None:
    puppet = program(rundir, "-W", "error")
    puppet.do("process.start()\nimport threading")
    puppet.do(
        """
def fork():
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        done.append(1)
done = []
threads = [threading.Thread(target=fork) for _ in range(4)]
import sys, warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
answer = len(done)
"""
    )
    assert puppet.eval("len(done), listener._suspended, len(switches())") == (80, 0, 1)
    assert puppet.eval("listener.last_error") is None
    with FakeDaemon(rundir.path, rundir.home / "word") as daemon:
        daemon.register().done()
        until(lambda: puppet.eval("listener.registered()"), "registration")
    puppet.close()


def test_child_of_a_program_without_a_registry_finds_one(rundir: Rundir) -> None:
    puppet = program(rundir)
    puppet.do("process.start()")
    fifo = rundir.home / "fifo"
    os.mkfifo(fifo)
    pid = puppet.do(CHILD.format(fifo=str(fifo)))
    holding = os.open(fifo, os.O_WRONLY)
    with FakeDaemon(rundir.path, rundir.home / "word") as daemon:
        pids = set()
        for _ in range(2):
            link = daemon.register()
            link.done()
            pids.add(link.said[0].pid)
        assert pids == {puppet.pid, pid}
        os.close(holding)
    puppet.do("os.waitpid(pid, 0)")
    puppet.close()


# -- the end of the program -----------------------------------------------------------------


@pytest.mark.parametrize("way", ["", "os._exit(0)", "sys.exit(0)"])
def test_end(rundir: Rundir, daemon: FakeDaemon, way: str) -> None:
    """Connected or not, with every warning on: nothing is said and nothing is waited for."""
    puppet = program(rundir, "-X", "dev", "-W", "error")
    # First registered, last called.
    puppet.do(
        "import atexit, sys\natexit.register(lambda: os.mkdir(f'{home}/{len(tasks())} threads'))"
    )
    link = registered(daemon, puppet)
    began = time.monotonic()
    if way:
        puppet.begin(way)
        assert puppet.process.wait() == 0
    puppet.close()
    assert link.gone()
    assert time.monotonic() - began < 20
    left = [path.name for path in rundir.home.glob("* threads")]
    assert left == ([] if "_exit" in way else ["1 threads"])
