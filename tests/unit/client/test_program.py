# SPDX-License-Identifier: MIT
"""Finding the program to record, and saying why it did not register."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from ustconsumer.client.elf import inspect, needs
from ustconsumer.client.program import ProgramError, environment, resolve, why_not_registered
from ustconsumer.errors import DecodeError

LOAD, DYNAMIC = 1, 2


def elf64(needed: list[str] | None) -> bytes:
    """Build a 64-bit little-endian ELF file: no dynamic section, or one with these libraries."""
    headers, count = 64, 0 if needed is None else 2
    body = headers + 56 * count
    strings = b"\0"
    entries = []
    for name in needed or []:
        entries.append((1, len(strings)))  # DT_NEEDED
        strings += name.encode() + b"\0"
    size = 16 * (len(entries) + 2)
    base = 0x400000
    entries += [(5, base + body + size), (0, 0)]  # DT_STRTAB, DT_NULL
    section = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    total = body + size + len(strings)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, headers, 0, 0, 64, 56, count, 0, 0, 0)
    programs = struct.pack("<IIQQQQQQ", LOAD, 5, 0, base, base, total, total, 4096)
    programs += struct.pack("<IIQQQQQQ", DYNAMIC, 6, body, base + body, 0, size, size, 8)
    return ident + header + (programs if count else b"") + section + strings


def put(path: Path, content: bytes, mode: int = 0o755) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_needed_libraries_are_read(tmp_path: Path) -> None:
    program = inspect(put(tmp_path / "p", elf64(["liba.so.1", "liblttng-ust.so.1"])))
    assert program is not None
    assert program.bits == 64
    assert program.dynamic
    assert program.needed == ("liba.so.1", "liblttng-ust.so.1")


def test_a_real_program_needs_its_c_library() -> None:
    program = inspect(os.path.realpath("/bin/sh"))
    assert program is not None
    assert any(name.startswith("libc.") for name in program.needed)


def test_libraries_of_libraries_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{tmp_path}")
    put(tmp_path / "libmiddle.so.1", elf64(["liblttng-ust.so.1", "libmiddle.so.1"]))
    program = put(tmp_path / "p", elf64(["libmiddle.so.1", "libnowhere.so.9"]))
    assert needs(program, "liblttng-ust.so")
    assert not needs(program, "libother.so")


def test_broken_headers_are_an_error_of_ours(tmp_path: Path) -> None:
    whole = elf64(["liblttng-ust.so.1"])
    outcomes = set()
    for size in range(4, len(whole)):
        try:
            outcomes.add(type(inspect(put(tmp_path / "p", whole[:size]))))
        except DecodeError as error:
            outcomes.add(type(error))
    # A cut within the last name is the only one that could go unseen, and it has no end.
    assert outcomes == {DecodeError}


@pytest.mark.parametrize(
    ("content", "mode", "text"),
    [
        (elf64(None), 0o755, "is statically linked"),
        (elf64([]), 0o755, "is statically linked"),
        (elf64(["libother.so.1"]), 0o755, "never loaded liblttng-ust"),
        (elf64(["liblttng-ust.so.1"]), 0o755, "may have cleared the environment"),
        (b"\x7fELF\x01\x01\x01" + bytes(60), 0o755, "32-bit"),
        (b"#!/bin/sh\n", 0o755, "is a script"),
        (b"#!/usr/bin/env python3\n", 0o755, "made no ustconsumer.tracer.Provider"),
        (b"#!/usr/local/bin/python3.12 -P\n", 0o755, "--python-calls"),
        (b"\x7fELF\x02\x01", 0o755, "cannot be examined"),
    ],
)
def test_why(content: bytes, mode: int, text: str, tmp_path: Path) -> None:
    why = why_not_registered(put(tmp_path / "prog", content, mode))
    assert text in why
    assert why.startswith("prog ")
    assert "\n" not in why


def test_why_a_python_interpreter(tmp_path: Path) -> None:
    why = why_not_registered(put(tmp_path / "python3.12", elf64([])))
    assert why.startswith("python3.12 made no ustconsumer.tracer.Provider")


def test_why_set_uid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = put(tmp_path / "prog", elf64(["liblttng-ust.so.1"]), 0o4755)
    # Set-uid to ourselves changes nothing.
    assert "set-uid" not in why_not_registered(program)
    monkeypatch.setattr(os, "getuid", lambda: program.stat().st_uid + 1)
    assert "set-uid" in why_not_registered(program)


def test_resolve_walks_path(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    put(first / "tool", b"", 0o644)
    put(second / "tool", b"")
    (first / "directory").mkdir()
    env = {"PATH": f"{first}:{second}"}
    assert resolve("tool", env) == second / "tool"
    assert resolve(str(second / "tool"), env) == second / "tool"
    for name, status in (
        ("absent", 127),
        ("directory", 127),
        (str(first / "tool"), 126),
        (str(first), 126),
        (str(first / "absent"), 127),
    ):
        with pytest.raises(ProgramError) as caught:
            resolve(name, env)
        assert caught.value.status == status, name
    with pytest.raises(ProgramError) as caught:
        resolve("tool", {"PATH": str(first)})
    assert caught.value.status == 126
    (first / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(ProgramError, match="dangling") as caught:
        resolve(str(first / "link"), env)
    assert caught.value.status == 127


def test_environment_leads_to_our_home_and_preloads(tmp_path: Path) -> None:
    home, shell = Path("/h"), Path(sys.executable)
    libraries = ["/l/libone.so.1", "/l/libtwo.so.1"]
    assert environment(shell, home, {}) == {"LTTNG_HOME": "/h"}
    assert environment(shell, home, {}, libraries) == {
        "LTTNG_HOME": "/h",
        "LD_PRELOAD": "/l/libone.so.1:/l/libtwo.so.1",
    }
    # Before those of the user: a wrapper calls the next malloc, which may be theirs.
    kept = environment(shell, home, {"LD_PRELOAD": "/mine.so", "LTTNG_HOME": "/other"}, libraries)
    assert kept == {
        "LTTNG_HOME": "/h",
        "LD_PRELOAD": "/l/libone.so.1:/l/libtwo.so.1:/mine.so",
        "DRTRACE_OUTER_HOME": "/h:/other",
    }
    chosen = {"LD_PRELOAD": "libtwo.so /l/libone.so.1"}
    assert environment(shell, home, chosen, libraries)["LD_PRELOAD"] == chosen["LD_PRELOAD"]
    # The dynamic linker of a 32-bit program would complain about it on standard error.
    small = put(tmp_path / "small", b"\x7fELF\x01\x01\x01" + bytes(60))
    assert "LD_PRELOAD" not in environment(small, home, {}, libraries)


def test_a_directory_of_path_that_cannot_be_entered_is_passed_over(tmp_path: Path) -> None:
    # As root nothing is closed; a path through a file fails the same way.
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    put(tmp_path / "tool", b"")
    assert resolve("tool", {"PATH": f"{closed}:{tmp_path}/tool:{tmp_path}"}) == tmp_path / "tool"
    closed.chmod(0o700)


@pytest.mark.skipif(os.getuid() != 0, reason="root may become another user")
def test_what_may_be_executed_is_a_matter_of_the_effective_user(tmp_path: Path) -> None:
    program = put(tmp_path / "p", b"#!/bin/sh\n", 0o700)
    code = (
        "import os, sys; from ustconsumer.client.program import resolve; "
        "os.setreuid(42420, 0); print(resolve(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, program]
    assert (
        subprocess.run(command, check=True, capture_output=True, text=True).stdout == f"{program}\n"
    )
