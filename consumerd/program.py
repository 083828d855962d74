# SPDX-License-Identifier: MIT
"""What every consumer program does around its sink: signals, name, errors, exit status."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from ustconsumer.client.connection import Connection
from ustconsumer.consumer.consumer import Consumer
from ustconsumer.consumer.sink import Sink
from ustconsumer.errors import UstConsumerError
from ustconsumer.limits import raise_descriptor_limit
from ustconsumer.protocol.control import Attached

__all__ = ["add_workers", "begin", "report", "run"]

_PR_SET_NAME = 15
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(
    kind: str,
    session: str,
    rundir: str | None,
    make_sink: Callable[[Attached, Callable[[str], None]], Sink],
    workers: int = 0,
) -> int:
    """Consume a session until it ends; return the exit status.

    Parameters
    ----------
    make_sink : callable
        Makes the sink from what the registry says of the session and what may say lines.
    workers : int
        Most threads that move packets at a time; 0: one, or what the sink asks for.

    Notes
    -----
    The first SIGTERM or SIGINT drains, closes and ends with 0; a second one ends at once.
    """
    begin()
    try:
        connection = Connection.connect(rundir, role="consumer")
        consumer = Consumer(
            connection,
            session,
            lambda attached: make_sink(attached, report),
            kind,
            report,
            workers,
        )
    except UstConsumerError as error:
        report(str(error))
        return 1
    _catch(consumer.stop_fd)
    try:
        consumer.run()
    except UstConsumerError as error:
        report(str(error))
        return 1
    return 0


def begin() -> None:
    """Do what comes first in a consumer: signals, its name, its limits."""
    _catch_early()
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"ust-consumerd", 0, 0, 0)
    raise_descriptor_limit()


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Declare the option of consumers that move packets as long as a session lasts."""
    parser.add_argument(
        "--workers",
        type=_workers,
        default=0,
        metavar="N",
        help="most threads that move packets at a time (default: 1; as many as CPUs to compress)",
    )


def _workers(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError
    return count


def _catch_early() -> None:
    """End well where there is nothing to drain yet."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    for each in _SIGNALS:
        signal.signal(each, end)
    # The spawner blocked them: none is lost before we can tell what it means.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _catch(stop_fd: int) -> None:
    def end(number: int, frame: FrameType | None) -> NoReturn:
        # Not as killed by a signal: who dies of that has a successor.
        os._exit(128 + number)

    def stop(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, end)
        with contextlib.suppress(OSError):
            os.write(stop_fd, b"\0")

    for each in _SIGNALS:
        signal.signal(each, stop)


def report(line: str) -> None:
    """Say a line on standard error."""
    # One write, unbuffered: lines of several processes do not mix, and one that cannot
    # be written is not kept for later.
    with contextlib.suppress(OSError):
        os.write(2, f"ust-consumerd[{os.getpid()}]: {line}\n".encode(errors="backslashreplace"))
