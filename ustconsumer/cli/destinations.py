# SPDX-License-Identifier: MIT
"""Options that say where packets go beside, or instead of, a directory, and in which form."""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING

from ustconsumer.cli.places import local_path
from ustconsumer.cli.values import size, timer
from ustconsumer.errors import UsageError

if TYPE_CHECKING:
    from ustconsumer.protocol.control import Destination

__all__ = [
    "add_port_options",
    "add_relay_options",
    "as_typed",
    "live_timer",
    "relay_urls",
    "say_values",
    "to_directory",
    "to_relay",
]

#: LTTng's.
_LIVE_US = 1000000
_DEFAULT_RELAY = "net://127.0.0.1"
#: zstd's.
_LEVEL = 3
_MAX_LEVEL = 22
#: Options whose value may be left out, and is attached where it is not.
_OPTIONAL = ("--live", "--zstd")
#: Stands for a value that was left out: no argument of a program has it.
_LEFT_OUT = "\0"
_SIZED = re.compile(r"(.+):([0-9][^:/]*)")
_FILES = ("token_file", "ca_file", "cert_file", "key_file")


def say_values(argv: list[str]) -> list[str]:
    """Return arguments in which ``--live`` and ``--zstd`` have a value: argparse takes the next."""
    return [f"{each}={_LEFT_OUT}" if each in _OPTIONAL else each for each in argv]


def as_typed(argv: list[str]) -> list[str]:
    """Undo `say_values` in arguments that are not ours."""
    return [each.removesuffix(f"={_LEFT_OUT}") for each in argv]


def live_timer(text: str) -> int:
    """Return the period of a live timer in microseconds."""
    period = _LIVE_US if text == _LEFT_OUT else timer(text)
    if not period:
        raise argparse.ArgumentTypeError("live timer interval must be greater than zero")
    return period


def _level(text: str) -> int:
    if text == _LEFT_OUT:
        return _LEVEL
    if text.isascii() and text.isdigit() and 1 <= int(text) <= _MAX_LEVEL:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a level of zstd: use 1 to {_MAX_LEVEL}")


def _spool(text: str) -> tuple[str, int]:
    """Return a directory and the bytes it may have."""
    match = _SIZED.fullmatch(text)
    if match is None:
        return os.path.abspath(text), 0
    limit = size(match[2])
    if not limit:
        raise argparse.ArgumentTypeError(f"{text}: a spool has room for a byte at least")
    return os.path.abspath(match[1]), limit


def add_port_options(parser: argparse._ActionsContainer) -> None:
    """``--ctrl-url`` and ``--data-url``, as with ``lttng``."""
    parser.add_argument(
        "-C",
        "--ctrl-url",
        metavar="URL",
        help="control port of the relay: tcp://HOST[:PORT][/PATH]",
    )
    parser.add_argument(
        "-D", "--data-url", metavar="URL", help="data port of the relay: tcp://HOST[:PORT]"
    )


def add_relay_options(parser: argparse.ArgumentParser) -> None:
    """How packets are written, and how they reach a relay."""
    add = parser.add_argument_group("where packets go").add_argument
    add(
        "--zstd",
        type=_level,
        default=0,
        metavar="LEVEL",
        help=f"compress the files of the directory, 1 to {_MAX_LEVEL} "
        f"(--zstd without =LEVEL: {_LEVEL}); for the way to a relay: net+zstd://",
    )
    add(
        "--spool",
        type=_spool,
        metavar="DIR[:SIZE]",
        help="keep what the relay does not take now in files of this directory, SIZE bytes at "
        "most, k/M/G allowed (default: in the buffers)",
    )
    add("--token-file", metavar="FILE", help="a secret that the relay asks for")
    add(
        "--ca-file",
        metavar="FILE",
        help="who signs the certificate of a net+tls:// relay (default: whom this system trusts)",
    )
    add("--cert-file", metavar="FILE", help="our certificate, for a relay that asks for it")
    add("--key-file", metavar="FILE", help="its key (default: it is in the certificate's file)")


def relay_urls(
    url: str | None, control: str | None, data: str | None, *, option: str
) -> tuple[str, str]:
    """Return ``url`` and ``data_url`` of a `Destination`; empty without options.

    Raises
    ------
    UsageError
        They contradict each other, or one is no URL.
    """
    from ustconsumer.protocol.destinations import of_ports  # not for --help

    if control is None and data is None:
        return url or "", ""
    if url is not None:
        raise UsageError(f"{option} says what --ctrl-url and --data-url say: use one of them")
    if control is None or data is None:
        raise UsageError("Both control and data URLs must be specified.")
    return of_ports(control, data)


def to_directory(output: str | None, url: str | None, option: str) -> tuple[str | None, str | None]:
    """Return output and relay's URL; a ``file://`` URL is an output.

    Raises
    ------
    UsageError
        There are two outputs, or the URL is of neither kind.
    """
    from ustconsumer.protocol.destinations import is_relay_url

    if url is None or is_relay_url(url):
        return output, url
    place = local_path(url)
    if output is not None:
        raise UsageError(f"--output and {option} name a directory each: use one of them")
    return place, None


def to_relay(arguments: argparse.Namespace, url: str, data_url: str, live_us: int) -> Destination:
    """Return what the options ask for.

    Raises
    ------
    UsageError
        They make no sense, or a file is not there.
    """
    from ustconsumer.protocol.control import Destination
    from ustconsumer.protocol.destinations import relay_of

    if live_us and not url:
        url = _DEFAULT_RELAY
    files = {name: _file(name, getattr(arguments, name)) for name in _FILES}
    spool, spool_size = arguments.spool or ("", 0)
    if not url:
        given = [name for name in (*_FILES, "spool") if getattr(arguments, name)]
        if given:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"{options}: for a relay only: say its URL")
    destination = Destination(
        url=url,
        data_url=data_url,
        live_us=live_us,
        zstd=arguments.zstd,
        spool=spool,
        spool_size=spool_size,
        **files,
    )
    if url:
        relay_of(destination)
    return destination


def _file(name: str, path: str | None) -> str:
    if path is None:
        return ""
    if not os.access(path, os.R_OK, effective_ids=True) or os.path.isdir(path):
        raise UsageError(f"--{name.replace('_', '-')}: {path} cannot be read")
    return os.path.abspath(path)
