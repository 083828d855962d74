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
from sessiond.quota import Limits
from sessiond.rendezvous import Rendezvous
from sessiond.spawner import Spawner, start_spawner
from ustconsumer.cli.values import size
from ustconsumer.errors import UsageError
from ustconsumer.limits import raise_descriptor_limit
from ustconsumer.paths import default_rundir, wait_word_path

__all__ = ["main"]

_log = logging.getLogger("sessiond")

#: What goes to ``--ready-fd`` when the sockets listen.
_READY = b"\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a registry; return the exit status."""
    options = _parser().parse_args(argv)
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
    foreground = -1
    try:
        rendezvous = Rendezvous(Path(default_rundir(options.rundir)), options.group)
        rendezvous.check_alone()
        if options.daemonize:
            foreground = _daemonize()
        return _serve(options, rendezvous, foreground)
    except UsageError as error:
        # A path in it may have line ends.
        line = f"ltt-sessiond: {' '.join(str(error).split())}\n"
        if foreground >= 0:
            os.write(foreground, line.encode())
        else:
            sys.stderr.write(line)
        return 1


def _parser() -> argparse.ArgumentParser:
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
    parser.add_argument("-d", "--daemonize", action="store_true", help="go to the background")
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


def _fd(text: str) -> int:
    try:
        fd = int(text)
        os.fstat(fd)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"{text!r} is no open descriptor") from None
    return fd


def _serve(options: argparse.Namespace, rendezvous: Rendezvous, foreground: int) -> int:
    raise_descriptor_limit()
    listening = [fd for fd in (options.ready_fd, foreground) if fd >= 0]
    # Forked while there is one thread and neither lock nor socket to inherit.
    spawner = start_spawner(rendezvous.rundir, listening)
    try:
        apps, control = rendezvous.take()
    except BaseException:
        spawner.close()
        raise
    access = Access(os.geteuid(), rendezvous.everybody, options.group)
    try:
        with (
            contextlib.nullcontext() if options.private else _wait_word(rendezvous.everybody),
            asyncio.Runner(loop_factory=_loop_factory()) as runner,
        ):
            runner.run(_run(access, rendezvous, apps, control, spawner, listening, options))
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
    options: argparse.Namespace,
) -> None:
    from sessiond.daemon import Daemon

    limits = Limits(
        applications=options.max_applications,
        sessions=options.max_sessions,
        kept=options.max_kept,
    )
    if options.max_memory is not None:
        limits = replace(limits, memory=options.max_memory)
    daemon = Daemon(access, apps, control, spawner, str(rendezvous.rundir), limits)
    for fd in listening:
        os.write(fd, _READY)
        os.close(fd)
    await daemon.run(options.lifeline)


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


def _daemonize() -> int:
    """Go to the background; return where to say `_READY`, or in a line why not.

    The foreground process stays until then: it passes the line on and exits. We keep
    nothing of its terminal or pipes, nor do our children: a shell that captures its
    output would wait for us.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        said = os.read(reading, 4096)
        if said != _READY:
            sys.stderr.write(said.decode(errors="replace") or "ltt-sessiond: died at its start\n")
            sys.stderr.flush()
        os._exit(said != _READY)
    os.close(reading)
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
    os.chdir("/")
    return writing


if __name__ == "__main__":
    sys.exit(main())
