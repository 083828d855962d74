# SPDX-License-Identifier: MIT
"""As much of ELF as it takes to say whether a program can load liblttng-ust, without running it."""

from __future__ import annotations

import mmap
import os
import re
import struct
from pathlib import Path
from typing import NamedTuple

from ustconsumer.errors import DecodeError

__all__ = ["Program", "find_library", "inspect", "needs"]

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB = 0, 1, 5
_LIBRARY_DIRS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")


class Program(NamedTuple):
    """What the headers of an ELF file say."""

    bits: int
    #: linked with shared libraries
    dynamic: bool
    #: sonames of the libraries it is linked with
    needed: tuple[str, ...]


def inspect(path: str | os.PathLike[str]) -> Program | None:
    """Return what an executable or library is, or ``None`` if it is not ELF.

    Raises
    ------
    OSError
        It cannot be read.
    DecodeError
        It begins like ELF, but its headers lead outside the file.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"\x7fELF":
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
            try:
                return _read(image)
            except (struct.error, IndexError, ValueError, StopIteration) as error:
                raise DecodeError(f"{os.fspath(path)}: broken ELF headers ({error})") from None


def _read(image: mmap.mmap) -> Program:
    order = "<" if image[5] == 1 else ">"
    if image[4] == 1:
        return Program(32, True, ())
    phoff, phentsize, phnum = struct.unpack_from(order + "32xQ14xHH", image)
    loads: list[tuple[int, int, int]] = []
    dynamic: tuple[int, int] | None = None
    for i in range(phnum):
        kind, offset, vaddr, size = struct.unpack_from(
            order + "I4xQQ8xQ", image, phoff + i * phentsize
        )
        if kind == _PT_LOAD:
            loads.append((vaddr, offset, size))
        elif kind == _PT_DYNAMIC:
            dynamic = offset, size
    # A static-pie has a dynamic section too, but needs nothing.
    if dynamic is None:
        return Program(64, False, ())
    names: list[int] = []
    table = 0
    for at in range(dynamic[0], dynamic[0] + dynamic[1] - 15, 16):
        tag, value = struct.unpack_from(order + "QQ", image, at)
        if tag == _DT_NULL:
            break
        if tag == _DT_NEEDED:
            names.append(value)
        elif tag == _DT_STRTAB:
            table = next(o + value - v for v, o, size in loads if v <= value < v + size)
    needed = []
    for name in names:
        start = table + name
        end = image.find(b"\0", start)
        if end < 0:
            raise ValueError("a name without an end")
        needed.append(image[start:end].decode(errors="replace"))
    return Program(64, bool(needed), tuple(needed))


def find_library(soname: str) -> Path | None:
    """Return where the dynamic linker would find a library, or ``None``.

    Asks LD_LIBRARY_PATH, the linker's cache and the usual directories; not the
    run path of the program that needs it.
    """
    for place in os.environ.get("LD_LIBRARY_PATH", "").split(":"):
        if place and (Path(place) / soname).exists():
            return Path(place) / soname
    try:
        cache = Path("/etc/ld.so.cache").read_bytes()
    except OSError:
        cache = b""
    # The cache's strings are NUL-terminated absolute paths; one may be stale.
    for match in re.finditer(rb"\0(/[^\0]*/" + re.escape(soname.encode()) + rb")(?=\0)", cache):
        path = Path(os.fsdecode(match[1]))
        if path.exists():
            return path
    for place in _LIBRARY_DIRS:
        if (Path(place) / soname).exists():
            return Path(place) / soname
    return None


def needs(path: str | os.PathLike[str], prefix: str) -> bool:
    """Return whether a program is linked, directly or not, with a library named ``prefix…``."""
    seen: set[str] = set()
    queue = [os.fspath(path)]
    while queue:
        try:
            program = inspect(queue.pop())
        except (OSError, DecodeError):
            continue
        for soname in program.needed if program else ():
            if soname.startswith(prefix):
                return True
            if soname not in seen:
                seen.add(soname)
                library = find_library(soname)
                if library is not None:
                    queue.append(os.fspath(library))
    return False
