# SPDX-License-Identifier: MIT
"""Options that several verbs share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from ustconsumer.cli.values import subbuf_count, subbuf_size

__all__ = ["add_buffer_options", "add_domain", "add_session"]


def add_domain(parser: argparse.ArgumentParser) -> None:
    """``-u``: user space is all there is, the option is for fingers used to ``lttng``."""
    parser.add_argument(
        "-u", "--userspace", action="store_true", help="user-space domain (the only one)"
    )
    for names in (("-k", "--kernel"), ("-j", "--jul"), ("-l", "--log4j"), ("-p", "--python")):
        parser.add_argument(*names, action=_OtherDomain, nargs=0, help=argparse.SUPPRESS)


def add_session(parser: argparse.ArgumentParser) -> None:
    """``-s``."""
    parser.add_argument("-s", "--session", help="recording session (default: the current one)")


def add_buffer_options(parser: argparse.ArgumentParser) -> None:
    """Sizes of ring buffers."""
    parser.add_argument(
        "--subbuf-size",
        type=subbuf_size,
        metavar="SIZE",
        help="bytes per sub-buffer, a power of two, k/M/G allowed (default: 512k)",
    )
    parser.add_argument(
        "--num-subbuf",
        type=subbuf_count,
        metavar="COUNT",
        help="sub-buffers per CPU, a power of two (default: 4)",
    )


class _OtherDomain(argparse.Action):
    """A domain of ``lttng`` that is not ours."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> NoReturn:
        parser.error(f"only user space can be traced: leave out {option_string}")
