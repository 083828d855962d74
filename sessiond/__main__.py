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
from collections.abc import Callable, Sequence
from pathlib import Path

import ustconsumer
from sessiond.access import Access
from sessiond.rendezvous import Rendezvous
from sessiond.spawner import Spawner, start_spawner
from ustconsumer.errors import UsageError
from ustconsumer.paths import default_rundir, wait_word_path

__all__ = ["main"]

_log = logging.getLogger("sessiond")


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
        # We are about to outlive whoever started us, and must not hold their directory.
        options.rundir = options.rundir and os.path.abspath(options.rundir)
    try:
        rendezvous = Rendezvous(default_rundir(options.rundir), options.group)
        rendezvous.check_alone()
        if options.daemonize:
            _daemonize()
        return _serve(options, rendezvous)
    except UsageError as error:
        print(f"ltt-sessiond: {error}", file=sys.stderr)
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
        "--ready-fd", type=int, default=-1, metavar="FD", help="gets one byte when listening"
    )
    parser.add_argument(
        "--lifeline", type=int, default=-1, metavar="FD", help="end when this reaches its end"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    parser.add_argument("--version", action="version", version=ustconsumer.__version__)
    return parser


def _serve(options: argparse.Namespace, rendezvous: Rendezvous) -> int:
    # Forked while there is one thread and neither lock nor socket to inherit.
    spawner = start_spawner(rendezvous.rundir)
    try:
        apps, control = rendezvous.take()
    except BaseException:
        spawner.close()
        raise
    try:
        from sessiond.daemon import raise_descriptor_limit
        from sessiond.waitword import WaitWord

        raise_descriptor_limit()
        access = Access(os.geteuid(), rendezvous.everybody, options.group)
        word = None
        if not options.private:
            uid = None if rendezvous.everybody else os.geteuid()
            try:
                word = WaitWord(wait_word_path(uid), rendezvous.everybody)
                word.raise_()
            except (OSError, UsageError) as error:
                _log.warning("%s", error)
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_run(options, access, rendezvous, apps, control, spawner))
        finally:
            if word is not None:
                word.reset()
    finally:
        rendezvous.leave()
    return 0


async def _run(
    options: argparse.Namespace,
    access: Access,
    rendezvous: Rendezvous,
    apps: socket.socket,
    control: socket.socket,
    spawner: Spawner,
) -> None:
    from sessiond.daemon import Daemon

    daemon = Daemon(access, apps, control, spawner, str(rendezvous.rundir))
    if options.ready_fd >= 0:
        os.write(options.ready_fd, b"\n")
        os.close(options.ready_fd)
    _detach()
    await daemon.run(options.lifeline)


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


def _daemonize() -> None:
    """Go to the background; the foreground process stays until the registry listens or fails."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        # Its end without a byte is a failure, whose line is on stderr already.
        os._exit(0 if os.read(reading, 1) else 1)
    os.close(reading)
    os.setsid()
    if os.fork():
        os._exit(0)
    _background.append(writing)
    os.chdir("/")


#: Write end of the pipe on which the foreground process waits.
_background: list[int] = []


def _detach() -> None:
    """Let the foreground process go, and its terminal with it."""
    while _background:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        fd = _background.pop()
        os.write(fd, b"\n")
        os.close(fd)


if __name__ == "__main__":
    sys.exit(main())
