# SPDX-License-Identifier: MIT
"""The objects loaded into this process: executable and libraries, and what ELF says of them.

Notes
-----
Source: lttng-ust ``src/common/elf.c`` and ``src/lib/lttng-ust/lttng-ust-statedump.c``.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

__all__ = ["Loaded", "inspect", "loaded"]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_NOTE = struct.Struct("<III")
_IDENT_64_LITTLE = b"\x7fELF\x02\x01"
_ET_DYN = 3
_PT_LOAD, _PT_NOTE = 1, 4
_NT_GNU_BUILD_ID = 3
_DEBUG_LINK = b".gnu_debuglink"
_VDSO = "[vdso]"
#: Of any table, note or name that a file says it has.
_MAX_PART = 1 << 20


class Loaded(NamedTuple):
    """An object in memory: where its first segment is, and what its file says."""

    path: str
    address: int
    #: bytes of address space from the first segment to the end of the last
    size: int
    is_pic: bool
    build_id: bytes
    #: name and checksum of the file with its debugging information
    debug_link: tuple[bytes, int] | None


class _Facts(NamedTuple):
    size: int
    is_pic: bool
    build_id: bytes
    debug_link: tuple[bytes, int] | None


#: By device, inode and time of change: what a file says does not depend on where it is.
_known: dict[tuple[int, int, int], _Facts | None] = {}


def loaded() -> list[Loaded]:
    """Return the objects of this process, in the order of their addresses."""
    found = []
    for path, address in _mapped():
        if path == _VDSO:
            # Not a file: liblttng-ust says no more of it.
            found.append(Loaded("[linux-vdso.so.1]", address, 0, False, b"", None))
        elif facts := _facts(path):
            found.append(Loaded(path, address, *facts))
    return found


def _mapped() -> list[tuple[str, int]]:
    """Return path and address of what is mapped from its beginning and can be executed."""
    with open("/proc/self/maps", "rb") as maps:
        lines = maps.read().splitlines()
    begins: dict[str, int] = {}
    executable = set()
    for line in lines:
        # address perms offset device inode path
        fields = line.split(None, 5)
        if len(fields) < 6 or not fields[5].startswith((b"/", _VDSO.encode())):
            continue
        path = os.fsdecode(fields[5])
        if not int(fields[2], 16):
            begins.setdefault(path, int(fields[0].partition(b"-")[0], 16))
        if b"x" in fields[1]:
            executable.add(path)
    return [(path, address) for path, address in begins.items() if path in executable]


def _facts(path: str) -> _Facts | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        key = status.st_dev, status.st_ino, status.st_mtime_ns
        if key not in _known:
            _known[key] = inspect(fd)
        return _known[key]
    except OSError:
        return None
    finally:
        os.close(fd)


def inspect(fd: int) -> _Facts | None:
    """Return what an ELF file says, None if it is none or contradicts itself."""
    try:
        return _read(fd)
    except (struct.error, ValueError):
        return None


def _part(fd: int, offset: int, size: int) -> bytes:
    if size > _MAX_PART or offset >= 1 << 63:
        raise ValueError("too large")
    return os.pread(fd, size, offset)


def _read(fd: int) -> _Facts | None:
    raw = _part(fd, 0, _HEADER.size)
    if not raw.startswith(_IDENT_64_LITTLE):
        return None
    (_, kind, _, _, _, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, names) = (
        _HEADER.unpack(raw)
    )
    if phentsize != _SEGMENT.size:
        return None
    low, high, build_id = 1 << 64, 0, b""
    for segment in _SEGMENT.iter_unpack(_part(fd, phoff, phnum * phentsize)):
        type_, _, offset, vaddr, _, filesz, memsz, _ = segment
        if type_ == _PT_LOAD:
            low, high = min(low, vaddr), max(high, vaddr + memsz)
        elif type_ == _PT_NOTE and not build_id:
            build_id = _build_id(_part(fd, offset, filesz))
    if high < low:
        return None
    link = _debug_link(fd, shoff, shnum, names) if shentsize == _SECTION.size else None
    return _Facts(high - low, kind == _ET_DYN, build_id, link)


def _build_id(notes: bytes) -> bytes:
    at = 0
    while at + _NOTE.size <= len(notes):
        name_size, size, type_ = _NOTE.unpack_from(notes, at)
        name = at + _NOTE.size
        value = name + (name_size + 3 & -4)
        if type_ == _NT_GNU_BUILD_ID and notes[name : name + name_size] == b"GNU\0":
            return notes[value : value + size]
        at = value + (size + 3 & -4)
    return b""


def _debug_link(fd: int, shoff: int, shnum: int, names: int) -> tuple[bytes, int] | None:
    sections = list(_SECTION.iter_unpack(_part(fd, shoff, shnum * _SECTION.size)))
    if not names < len(sections):
        return None
    table = _part(fd, sections[names][4], sections[names][5])
    for section in sections:
        start = section[0]
        if table[start : start + len(_DEBUG_LINK) + 1] == _DEBUG_LINK + b"\0":
            content = _part(fd, section[4], section[5])
            name, _, _ = content.partition(b"\0")
            # The checksum is the section's last word, after padding.
            return name, int.from_bytes(content[-4:], "little")
    return None
