# SPDX-License-Identifier: MIT
"""State dump: when it is made, to whom, and what it says of the objects of this process."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from helpers.peers import need
from helpers.tracing import Buffers, FakeRegistry, declare

from ustconsumer.abi.application import CommandNumber
from ustconsumer.protocol import application
from ustconsumer.tracer import elfs
from ustconsumer.tracer.process import Process

PREFIX = "lttng_ust_statedump:"


def dumped(daemon: FakeRegistry, made: Buffers) -> list[tuple[str, dict[str, Any]]]:
    return [
        (record.event.name.removeprefix(PREFIX), record.fields)
        for record in daemon.records(made, statedump=True)
        if record.event.name.startswith(PREFIX)
    ]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROCNAME", "BADDR"):
        monkeypatch.delenv(f"LTTNG_UST_WITHOUT_{name}_STATEDUMP", raising=False)


def test_it_is_made_when_registered_and_active(process: Process, daemon: FakeRegistry) -> None:
    _, made = daemon.recording()
    assert dumped(daemon, made) == []
    daemon.do(application.register_done())
    names = [name for name, _ in dumped(daemon, made)]
    assert names[:2] == ["start", "procname"]
    assert names[-1] == "end"
    assert {"bin_info", "build_id"} <= set(names)
    # Once is enough.
    daemon.do(application.register_done())
    assert names.count("start") == 1


def test_each_start_of_a_session_has_its_own(process: Process, daemon: FakeRegistry) -> None:
    daemon.do(application.register_done())
    session, made = daemon.recording(f"{PREFIX}start")
    other, others = daemon.recording(f"{PREFIX}start", id=8)
    assert len(dumped(daemon, made)) == len(dumped(daemon, others)) == 1
    daemon.do(application.disable(session))
    daemon.do(application.enable(session))
    assert (len(dumped(daemon, made)), len(dumped(daemon, others))) == (2, 1)
    daemon.do(application.statedump(other))
    assert (len(dumped(daemon, made)), len(dumped(daemon, others))) == (2, 2)
    # Of an inactive session it is none.
    daemon.do(application.disable(other))
    daemon.do(application.statedump(other))
    assert len(dumped(daemon, others)) == 2


def test_it_comes_before_the_first_event(process: Process, daemon: FakeRegistry) -> None:
    daemon.do(application.register_done())
    order = declare(process, "shop:order")
    _, made = daemon.recording()
    order()
    assert [record.event.name for record in daemon.records(made, statedump=True)][
        -1
    ] == "shop:order"


def test_the_environment_leaves_parts_out(
    process: Process, daemon: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.do(application.register_done())
    monkeypatch.setenv("LTTNG_UST_WITHOUT_BADDR_STATEDUMP", "1")
    _, made = daemon.recording()
    assert [name for name, _ in dumped(daemon, made)] == ["start", "procname", "end"]
    monkeypatch.setenv("LTTNG_UST_WITHOUT_PROCNAME_STATEDUMP", "1")
    _, made = daemon.recording(id=8)
    assert [name for name, _ in dumped(daemon, made)] == ["start", "end"]


def test_the_process_name_is_that_of_its_main_thread(
    process: Process, daemon: FakeRegistry
) -> None:
    daemon.do(application.register_done())
    _, made = daemon.recording(f"{PREFIX}procname")
    expected = Path("/proc/self/comm").read_text().removesuffix("\n")
    assert dumped(daemon, made) == [("procname", {"procname": expected})]


def test_every_object_of_the_linker_is_there(process: Process, daemon: FakeRegistry) -> None:
    daemon.do(application.register_done())
    _, made = daemon.recording(subbuf_size=1 << 20)
    events = dumped(daemon, made)
    infos = {fields["path"]: fields for name, fields in events if name == "bin_info"}
    addresses = {fields["baddr"] for name, fields in events if name == "bin_info"}
    assert os.path.realpath("/proc/self/exe") in infos
    assert "[linux-vdso.so.1]" in infos
    build_ids = {
        fields["baddr"]: fields["build_id"] for name, fields in events if name == "build_id"
    }
    links = {fields["baddr"] for name, fields in events if name == "debug_link"}
    for info in infos.values():
        assert (info["baddr"] in build_ids) == bool(info["has_build_id"])
        assert (info["baddr"] in links) == bool(info["has_debug_link"])
    assert len(addresses) == len(infos)
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            path = line.split(None, 5)[5].rstrip("\n") if line.count(" /") else ""
            if path in infos:
                info = infos[path]
                assert info["baddr"] <= start
                # Its segments, and no more than the rest of a page.
                assert end <= info["baddr"] + -(-info["memsz"] // 4096) * 4096


def test_filters_of_a_rule_see_what_is_declared(process: Process, daemon: FakeRegistry) -> None:
    # What native code is given is another matter: 17 numbers of a byte each.
    seen = []

    class Accepting:
        def __call__(self, values: tuple[object, ...]) -> bool:
            seen.append(values)
            return values == (Path("/proc/self/comm").read_bytes()[:-1],)

    daemon.do(application.register_done())
    session = daemon.session()
    made = daemon.make_channel(session)
    rule = daemon.dispatcher.made.handles.get(daemon.rule(made.handle, f"{PREFIX}procname"))
    rule.filters = lambda declared: (Accepting(),)  # type: ignore[union-attr]
    daemon.do(application.enable(session))
    assert len(seen) == 1
    assert len(dumped(daemon, made)) == 1


def test_notifiers_are_told_of_it(process: Process, daemon: FakeRegistry) -> None:
    daemon.do(application.register_done())
    group, pipe = daemon.group()
    daemon.do(application.enable(daemon.notifier(group, f"{PREFIX}start", 5)))
    daemon.recording()
    assert len(os.read(pipe, 4096)) == 42


def test_releasing_a_session_that_waits_for_its_dump(daemon: FakeRegistry) -> None:
    session, _ = daemon.recording()
    daemon.do(application.release(session))
    daemon.do(application.register_done())
    assert daemon.send(0, CommandNumber.SESSION).ret_code == 0


# -- what ELF says ---------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> Path:
    need("gcc")
    source = tmp_path / "a.c"
    source.write_text("int zeros[5000]; int answer(void) { return 42; }\n")
    made = tmp_path / "liba.so"
    command = ["gcc", "-shared", "-fPIC", "-g", "-Wl,--build-id=0x0123456789abcdef"]
    subprocess.run([*command, source, "-o", made], check=True)
    return made


def facts(path: Path) -> Any:
    fd = os.open(path, os.O_RDONLY)
    try:
        return elfs.inspect(fd)
    finally:
        os.close(fd)


def test_build_id_and_debug_link(library: Path) -> None:
    before = facts(library)
    assert before.build_id == bytes.fromhex("0123456789abcdef")
    assert before.is_pic
    assert before.debug_link is None
    debug = library.with_suffix(".debug")
    subprocess.run(["objcopy", "--only-keep-debug", library, debug], check=True)
    subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", library], check=True)
    # The format's own checksum is that of zlib.
    expected = (debug.name.encode(), zlib.crc32(debug.read_bytes()))
    assert facts(library).debug_link == expected


def test_what_is_mapped_to_be_read_only_is_not_loaded(library: Path) -> None:
    with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        assert str(library) not in [each.path for each in elfs.loaded()]
    loaded = ctypes.CDLL(str(library))
    assert loaded.answer() == 42
    assert str(library) in [each.path for each in elfs.loaded()]


def test_size_reaches_to_the_end_of_the_last_segment(library: Path) -> None:
    output = subprocess.run(
        ["readelf", "-lW", library], check=True, capture_output=True, text=True
    ).stdout
    loads = [line.split() for line in output.splitlines() if line.split()[:1] == ["LOAD"]]
    assert len(loads) >= 3
    end = max(int(load[2], 16) + int(load[5], 16) for load in loads)
    assert facts(library).size == end - min(int(load[2], 16) for load in loads)


@pytest.mark.parametrize("at", [32, 40, 54, 56, 58, 60, 62])
def test_headers_that_lie_are_no_error(library: Path, at: int) -> None:
    raw = bytearray(library.read_bytes())
    for value in (b"\xff" * 8, b"\0" * 8, b"\x01" + bytes(7)):
        raw[at : at + 2] = value[:2]
        library.write_bytes(raw)
        facts(library)
        raw[at : at + 8] = value
        library.write_bytes(raw)
        facts(library)


def test_what_is_no_elf_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "text"
    for content in (b"", b"\x7fELF", b"#!/bin/sh\n" * 10):
        path.write_bytes(content)
        assert facts(path) is None
