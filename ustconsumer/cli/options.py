# SPDX-License-Identifier: MIT
"""Options that several verbs share."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ustconsumer.cli.values import (
    blocking_timeout,
    size,
    subbuf_count,
    subbuf_size,
    timer,
    tracefile_count,
)
from ustconsumer.errors import UsageError

if TYPE_CHECKING:
    from ustconsumer.client.session import Session
    from ustconsumer.protocol.control import ChannelOptions

__all__ = [
    "add_buffer_options",
    "add_domain",
    "add_output_mode",
    "add_session",
    "changed_options",
    "channel_options",
    "shown_channel",
]

#: LTTng's default where each process has buffers of its own.
_SIZE_PER_PROCESS = 16384
#: field of ChannelOptions -> destination of its option
_ATTRIBUTES = {
    "subbuf_size": "subbuf_size",
    "num_subbuf": "num_subbuf",
    "mode": "mode",
    "buffers": "buffers",
    "switch_timer_us": "switch_timer",
    "read_timer_us": "read_timer",
    "monitor_timer_us": "monitor_timer",
    "blocking_timeout_us": "blocking_timeout",
    "tracefile_size": "tracefile_size",
    "tracefile_count": "tracefile_count",
}


def add_domain(parser: argparse.ArgumentParser, python: str = "") -> None:
    """``-u``: the option is for fingers used to ``lttng``; ``-p`` where it has a meaning.

    Parameters
    ----------
    python : str
        Help of ``-p``; empty: there is none.
    """
    other = [("-k", "--kernel"), ("-j", "--jul"), ("-l", "--log4j")]
    if python:
        domains = parser.add_mutually_exclusive_group()
        domains.add_argument(
            "-u", "--userspace", action="store_true", help="user-space domain (the default)"
        )
        domains.add_argument("-p", "--python", action="store_true", help=python)
    else:
        parser.add_argument(
            "-u", "--userspace", action="store_true", help="user-space domain (the only one)"
        )
        other.append(("-p", "--python"))
    for names in other:
        parser.add_argument(*names, action=_OtherDomain, nargs=0, help=argparse.SUPPRESS)


def shown_channel(session: Session, domain: str) -> str:
    """Return the channel that is meant where none is named, once there is one."""
    from ustconsumer.protocol.agent import PYTHON_CHANNEL

    if domain:
        return PYTHON_CHANNEL
    return next(c.name for c in session.info().channels if c.name != PYTHON_CHANNEL)


def add_session(parser: argparse.ArgumentParser) -> None:
    """``-s``."""
    parser.add_argument("-s", "--session", help="recording session (default: the current one)")


def add_buffer_options(parser: argparse.ArgumentParser) -> None:
    """Attributes of a channel; of two that exclude each other the last one counts, as in lttng."""
    add = parser.add_argument_group("buffers").add_argument
    add(
        "--subbuf-size",
        type=subbuf_size,
        metavar="SIZE",
        help="bytes per sub-buffer, a power of two, k/M/G allowed "
        f"(default: 512k; with --buffers-pid {_SIZE_PER_PROCESS >> 10}k)",
    )
    add(
        "--num-subbuf",
        type=subbuf_count,
        metavar="COUNT",
        help="sub-buffers per CPU, a power of two (default: 4)",
    )
    add(
        "--discard",
        dest="mode",
        action="store_const",
        const="discard",
        help="when buffers are full, drop new events (the default)",
    )
    add(
        "--overwrite",
        dest="mode",
        action="store_const",
        const="overwrite",
        help="when buffers are full, overwrite the oldest events",
    )
    add(
        "--buffers-uid",
        dest="buffers",
        action="store_const",
        const="uid",
        help="buffers shared by the programs of a user (the default)",
    )
    add(
        "--buffers-pid",
        dest="buffers",
        action="store_const",
        const="pid",
        help="buffers for each process",
    )
    add(
        "--switch-timer",
        type=timer,
        metavar="PERIOD",
        help="write out what is recorded at least so often: us, or with ms, s, m, h (default: 0, "
        "when a sub-buffer is full)",
    )
    add(
        "--read-timer",
        type=timer,
        metavar="PERIOD",
        help="look for full sub-buffers so often, programs wake nobody up (default: 0, they do)",
    )
    add(
        "--monitor-timer",
        type=timer,
        metavar="PERIOD",
        help="look how full the buffers are so often (default: 1s; 0: not at all)",
    )
    add(
        "--blocking-timeout",
        type=blocking_timeout,
        metavar="TIME",
        help="a full buffer holds a program up so long, where LTTNG_UST_ALLOW_BLOCKING is set "
        "(record sets it): us, or with ms, s, m, h, or inf (default: 0)",
    )
    add(
        "--tracefile-size",
        type=size,
        metavar="SIZE",
        help="several files for each stream, each of at most SIZE bytes, k/M/G allowed "
        "(default: 0, one of any size)",
    )
    add(
        "--tracefile-count",
        type=tracefile_count,
        metavar="COUNT",
        help="with --tracefile-size: keep the newest COUNT files of each stream (default: 0, all)",
    )


def add_output_mode(parser: argparse.ArgumentParser) -> None:
    """``--output``: as `lttng` has it, of which user space has one."""
    parser.add_argument("--output", type=_output, metavar="mmap", help=argparse.SUPPRESS)


def changed_options(arguments: argparse.Namespace) -> dict[str, int | str]:
    """Return the attributes asked for, by their names in `ChannelOptions`."""
    asked = {attribute: getattr(arguments, option) for attribute, option in _ATTRIBUTES.items()}
    return {attribute: value for attribute, value in asked.items() if value is not None}


def channel_options(
    arguments: argparse.Namespace,
    base: ChannelOptions | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> ChannelOptions:
    """Return the attributes asked for, otherwise those of ``base``.

    ``warn`` is told, as by ``lttng``, that a file is to hold a sub-buffer at least.

    Raises
    ------
    UsageError
        They contradict each other.
    """
    from ustconsumer.protocol.control import ChannelOptions  # not for --help

    options = copy.copy(base) if base is not None else ChannelOptions()
    for attribute, option in _ATTRIBUTES.items():
        value = getattr(arguments, option)
        if value is not None:
            setattr(options, attribute, value)
    if base is None and options.buffers == "pid" and arguments.subbuf_size is None:
        options.subbuf_size = _SIZE_PER_PROCESS
    if options.mode == "overwrite":
        if options.blocking_timeout_us:
            raise UsageError(
                "buffers that are overwritten hold no program up: "
                "leave out --blocking-timeout or --overwrite"
            )
        if options.num_subbuf < 2:
            raise UsageError("--overwrite needs two sub-buffers: use --num-subbuf=2 or more")
    if options.tracefile_count and not options.tracefile_size:
        raise UsageError(
            "Missing option --tracefile-size. A file count without a size won't do anything."
        )
    if 0 < options.tracefile_size < options.subbuf_size:
        warn(
            f"Tracefile size rounded up from ({options.tracefile_size}) to subbuffer size "
            f"({options.subbuf_size})"
        )
        options.tracefile_size = options.subbuf_size
    return options


def _output(text: str) -> str:
    if text == "splice":
        raise argparse.ArgumentTypeError(
            "buffers of programs are shared memory, which is not spliced: leave it out, or use mmap"
        )
    if text != "mmap":
        raise argparse.ArgumentTypeError(f"unknown output {text!r}: there is mmap")
    return text


class _OtherDomain(argparse.Action):
    """A domain of ``lttng`` that is not ours."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> NoReturn:
        if option_string in ("-p", "--python"):
            parser.error(f"loggers of Python have none of this: leave out {option_string}")
        if option_string in ("-k", "--kernel"):
            parser.error(f"only user space can be traced: leave out {option_string}")
        parser.error(
            f"agents of Java and log4j are not spoken to yet, only user space can be traced: "
            f"leave out {option_string}"
        )
