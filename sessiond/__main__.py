# SPDX-License-Identifier: MIT
"""``ltt-sessiond``, also ``python -m sessiond``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import ustconsumer
from sessiond.access import Access
from sessiond.activation import ServiceManager
from sessiond.background import READY, go_to_background, pid_file
from sessiond.quota import Limits
from sessiond.rendezvous import Rendezvous
from sessiond.spawner import Spawner, start_spawner
from ustconsumer.cli.values import size
from ustconsumer.errors import UsageError
from ustconsumer.limits import raise_descriptor_limit
from ustconsumer.paths import default_rundir, wait_word_path

__all__ = ["main", "make_parser"]

_log = logging.getLogger("sessiond")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a registry; return the exit status."""
    options = make_parser().parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr,
        format="ltt-sessiond: %(message)s",
        level=logging.DEBUG if options.verbose else logging.WARNING,
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    _name_process("ltt-sessiond")
    with contextlib.suppress(FileNotFoundError):
        # A daemon leaves the directory it was started in.
        options.rundir = os.path.abspath(options.rundir) if options.rundir else None
        options.pidfile = os.path.abspath(options.pidfile) if options.pidfile else None
    foreground = -1
    manager = ServiceManager()
    try:
        rundir = Path(default_rundir(options.rundir))
        rendezvous = Rendezvous(rundir, options.group, manager.sockets(rundir))
        rendezvous.check_alone()
        if options.daemonize or options.background:
            foreground = go_to_background(keep_output=not options.daemonize)
        return _serve(options, rendezvous, foreground, manager)
    except UsageError as error:
        # A path in it may have line ends.
        line = f"ltt-sessiond: {' '.join(str(error).split())}\n"
        if foreground >= 0:
            os.write(foreground, line.encode())
        else:
            sys.stderr.write(line)
        return 1


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="ltt-sessiond",
        description="Session registry: knows the recording sessions and the programs they record.",
        allow_abbrev=False,
    )
    parser.add_argument("--rundir", help="directory of the sockets (default: LTTng's own)")
    parser.add_argument(
        "--group", default="tracing", help="may control the global registry (%(default)s)"
    )
    parser.add_argument(
        "--private", action="store_true", help="for one recording: do not wake up other programs"
    )
    parser.add_argument(
        "-d", "--daemonize", action="store_true", help="go to the background when ready"
    )
    parser.add_argument(
        "-b",
        "--background",
        action="store_true",
        help="as --daemonize, but keep standard output and error",
    )
    parser.add_argument("-p", "--pidfile", metavar="FILE", help="has our pid as long as we live")
    parser.add_argument(
        "--ready-fd", type=_fd, default=-1, metavar="FD", help="gets one byte when listening"
    )
    parser.add_argument(
        "--lifeline", type=_fd, default=-1, metavar="FD", help="end when this reaches its end"
    )
    limits = parser.add_argument_group("limits of one uid")
    limits.add_argument(
        "--max-memory",
        type=_memory,
        metavar="SIZE",
        help="ring buffers, in bytes or with k, M, G (default: half of the memory)",
    )
    for name, what in (("applications", "registered programs"), ("sessions", "sessions")):
        default = getattr(Limits, name)
        limits.add_argument(
            f"--max-{name}",
            type=_count,
            metavar="N",
            default=default,
            help=f"{what} (default: %(default)s)",
        )
    limits.add_argument(
        "--max-kept",
        type=_size,
        metavar="SIZE",
        default=Limits.kept,
        help="ring buffers of ended programs, kept for snapshots in each session in snapshot "
        "mode; the oldest go first (default: 256M)",
    )
    parser.add_argument(
        "--agent-tcp-port",
        type=_port,
        metavar="PORT",
        help="logging agents of programs connect here (default: the first free one of 5345 to "
        "5354; 0: none can)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    parser.add_argument("--version", action="version", version=ustconsumer.__version__)
    return parser


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number: use 1 or more")


def _size(text: str) -> int:
    return size(text)


def _memory(text: str) -> int:
    memory = size(text)
    if memory:
        return memory
    raise argparse.ArgumentTypeError("without memory nothing is recorded: use 1 or more")


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 1 << 16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port")


def _fd(text: str) -> int:
    try:
        fd = int(text)
        os.fstat(fd)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"{text!r} is no open descriptor") from None
    return fd


def _serve(
    options: argparse.Namespace,
    rendezvous: Rendezvous,
    foreground: int,
    manager: ServiceManager,
) -> int:
    raise_descriptor_limit()
    listening = [fd for fd in (options.ready_fd, foreground) if fd >= 0]
    # Forked while there is one thread and neither lock nor socket to inherit.
    spawner = start_spawner(rendezvous.rundir, [*listening, *rendezvous.inherited])
    try:
        apps, control = rendezvous.take()
    except BaseException:
        spawner.close()
        raise
    access = Access(os.geteuid(), rendezvous.everybody, options.group)
    try:
        with (
            pid_file(Path(options.pidfile)) if options.pidfile else contextlib.nullcontext(),
            contextlib.nullcontext() if options.private else _wait_word(rendezvous.everybody),
            asyncio.Runner(loop_factory=_loop_factory()) as runner,
        ):
            runner.run(
                _run(access, rendezvous, apps, control, spawner, listening, manager, options)
            )
    except asyncio.CancelledError:
        return 1
    finally:
        rendezvous.leave()
    return 0


async def _run(
    access: Access,
    rendezvous: Rendezvous,
    apps: socket.socket,
    control: socket.socket,
    spawner: Spawner,
    listening: list[int],
    manager: ServiceManager,
    options: argparse.Namespace,
) -> None:
    from sessiond.agents import listen
    from sessiond.daemon import Daemon

    # Who records one program alone needs no port that others find.
    by_default = 0 if options.private else None
    agents = listen(by_default if options.agent_tcp_port is None else options.agent_tcp_port)
    limits = Limits(
        applications=options.max_applications,
        sessions=options.max_sessions,
        kept=options.max_kept,
    )
    if options.max_memory is not None:
        limits = replace(limits, memory=options.max_memory)
    daemon = Daemon(access, apps, control, spawner, str(rendezvous.rundir), limits)
    if agents is not None:
        daemon.agents.open(agents, rendezvous.rundir)
    for fd in listening:
        os.write(fd, READY)
        os.close(fd)
    manager.ready()
    await daemon.run(options.lifeline, manager.stopping)


@contextlib.contextmanager
def _wait_word(everybody: bool) -> Iterator[None]:
    """Keep the wait word raised; without it only programs started later notice us."""
    from sessiond.waitword import WaitWord

    try:
        word = WaitWord(Path(wait_word_path(None if everybody else os.geteuid())), everybody)
    except (OSError, UsageError) as error:
        _log.warning("%s", error)
        yield
        return
    word.raise_()
    try:
        yield
    finally:
        word.reset()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _name_process(name: str) -> None:
    # What ps and `a foreign daemon` messages show.
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name, encoding="ascii")


if __name__ == "__main__":
    sys.exit(main())
