# SPDX-License-Identifier: MIT
"""The libraries of LTTng-UST that a program is traced with by preloading them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ustconsumer.client.elf import find_library
from ustconsumer.errors import UsageError

__all__ = ["DEFAULT", "LIBRARIES", "NONE", "Library", "check", "paths"]


class Library(NamedTuple):
    """One library: what loads, where it comes from, what it adds to a trace."""

    soname: str
    #: Debian's package; other distributions have one package for all
    package: str
    summary: str


_PACKAGE = "liblttng-ust1"
#: In the order they are loaded. Source: the man page of each, section 3 of lttng-ust 2.13.
LIBRARIES = {
    "libc": Library("liblttng-ust-libc-wrapper.so.1", _PACKAGE, "lttng_ust_libc:malloc, free ..."),
    "pthread": Library("liblttng-ust-pthread-wrapper.so.1", _PACKAGE, "lttng_ust_pthread: mutexes"),
    "dl": Library("liblttng-ust-dl.so.1", _PACKAGE, "lttng_ust_dl:dlopen ..., lttng_ust_lib:load"),
    "cyg": Library(
        "liblttng-ust-cyg-profile.so.1", _PACKAGE, "calls, of code with -finstrument-functions"
    ),
    "cyg-fast": Library(
        "liblttng-ust-cyg-profile-fast.so.1", _PACKAGE, "the same, without call sites"
    ),
    "fork": Library("liblttng-ust-fork.so.1", _PACKAGE, "forked children as themselves"),
}
#: Preloaded where it is found, unless `NONE` is among the names.
DEFAULT = "fork"
NONE = "none"


def check(names: Iterable[str]) -> list[str]:
    """Return the names that choose a library, each once.

    Raises
    ------
    UsageError
        One is unknown, or two exclude each other.
    """
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in LIBRARIES and name != NONE:
            raise UsageError(
                f"unknown library to preload {name!r}: use {', '.join(LIBRARIES)} or {NONE}"
            )
    if "cyg" in chosen and "cyg-fast" in chosen:
        raise UsageError("both cyg and cyg-fast trace every call: preload one of them")
    return chosen


def paths(names: Sequence[str]) -> list[str]:
    """Return the files to preload for names that `check` has seen, in the order to load them.

    Raises
    ------
    UsageError
        A library that was asked for is not installed.
    """
    found: list[str] = []
    for name, library in LIBRARIES.items():
        default = name == DEFAULT and NONE not in names
        if name not in names and not default:
            continue
        path = find_library(library.soname)
        if path is not None:
            found.append(str(path))
        elif name in names:
            raise UsageError(
                f"cannot preload {name}: {library.soname} is not installed "
                f"(Debian package {library.package})"
            )
    return found
