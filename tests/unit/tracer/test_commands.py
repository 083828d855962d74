# SPDX-License-Identifier: MIT
"""Commands: which objects take which, lists, versions, and what a bad one is answered."""

from __future__ import annotations

import errno
import os
import struct
import threading

import pytest
from helpers.tracing import FakeRegistry, declare

from ustconsumer._native import emit
from ustconsumer.abi.application import CommandNumber, ContextNumber
from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol import application
from ustconsumer.tracer.process import Process
from ustconsumer.tracer.types import enumeration, f32, sequence, string, u8, u32

INVALID = (-1027, -errno.EINVAL)
EXISTS = (-1026, -errno.EEXIST)
NOT_PERMITTED = (-1028, -errno.EPERM)


def test_the_version_is_that_of_the_tracer_we_stand_in_for(daemon: FakeRegistry) -> None:
    answer = daemon.try_(application.tracer_version())
    assert struct.unpack("<III", answer.payload) == (2, 13, 5)


def test_handles_begin_at_one(daemon: FakeRegistry) -> None:
    assert [daemon.session() for _ in range(3)] == [1, 2, 3]


def test_a_handle_that_does_not_exist_ends_the_connection(daemon: FakeRegistry) -> None:
    with pytest.raises(RemoteProtocolError, match="handle 9"):
        daemon.send(9, CommandNumber.ENABLE)


def test_each_object_refuses_what_is_not_for_it(process: Process, daemon: FakeRegistry) -> None:
    group, _ = daemon.group()
    session, made = daemon.recording()
    handles = {
        0: {"SESSION", "TRACER_VERSION", "TRACEPOINT_LIST", "WAIT_QUIESCENT", "REGISTER_DONE"}
        | {"TRACEPOINT_FIELD_LIST"},
        session: {"SESSION_START", "SESSION_STOP", "SESSION_STATEDUMP", "ENABLE", "DISABLE"},
        made.handle: {"ENABLE", "DISABLE", "FLUSH_BUFFER"},
        daemon.rule(made.handle): {"ENABLE", "DISABLE"},
        group: set(),
        daemon.notifier(group, "*", 1): {"ENABLE", "DISABLE"},
    }
    # Nothing follows these on the socket.
    alone = {"RELEASE", "TRACEPOINT_LIST_GET", "TRACEPOINT_FIELD_LIST_GET"}
    for names in handles.values():
        alone |= names
    for handle, accepted in handles.items():
        for name in alone - accepted - {"RELEASE"}:
            answer = daemon.send(handle, getattr(CommandNumber, name))
            assert answer[:2] == INVALID, (handle, name)
        assert daemon.send(handle, 0xEE)[:2] == INVALID
    assert daemon.send(0, CommandNumber.RELEASE)[:2] == NOT_PERMITTED


def test_an_application_context_may_be_called_anything(daemon: FakeRegistry) -> None:
    session = daemon.session()
    made = daemon.make_channel(session)
    payload = struct.pack("<i16xII", ContextNumber.APP_CONTEXT, 3, 2)
    for data, answer in ((b"p\xe9\0n\0", (0, 0)), (b"p\xe9\0n\0", EXISTS), (b"p\xe9\0m\0", (0, 0))):
        assert daemon.send(made.handle, CommandNumber.CONTEXT, payload, data)[:2] == answer


def test_registered_twice_is_no_error(daemon: FakeRegistry) -> None:
    assert daemon.do(application.register_done()) == 0
    assert daemon.do(application.register_done()) == 0


def test_tracepoints_are_listed_newest_first(process: Process, daemon: FakeRegistry) -> None:
    declare(process, "shop:a", level=3)
    declare(process, "shop:b")
    listing = daemon.do(application.tracepoint_list())
    # It is of the moment it was made.
    declare(process, "shop:late")
    found = []
    while (answer := daemon.try_(application.tracepoint_list_get(listing))).ret_code == 0:
        name, level = struct.unpack_from("<256si", answer.payload)
        found.append((name.rstrip(b"\0").decode(), level))
    assert answer[:2] == (-1025, -errno.ENOENT)
    dump = ("end", "procname", "debug_link", "build_id", "bin_info", "start")
    assert found == [
        ("shop:b", 13),
        ("shop:a", 3),
        *((f"lttng_ust_statedump:{name}", 13) for name in dump),
    ]
    daemon.do(application.release(listing))


def test_fields_are_listed_last_first(process: Process, daemon: FakeRegistry) -> None:
    declare(process, "shop:none", level=2)
    declare(
        process,
        "shop:all",
        n=u32,
        real=f32,
        text=string,
        items=sequence(u8),
        colour=enumeration({"red": 0}, name="colour"),
    )
    listing = daemon.send(0, CommandNumber.TRACEPOINT_FIELD_LIST).ret_val
    found = []
    while (answer := daemon.send(listing, CommandNumber.TRACEPOINT_FIELD_LIST_GET)).ret_code == 0:
        assert len(answer.trailer) == 808
        event, field, kind, level, nowrite = struct.unpack_from("<256s256siii", answer.trailer)
        found.append(
            (event.rstrip(b"\0").decode(), field.rstrip(b"\0").decode(), kind, level, nowrite)
        )
    assert answer == (-1025, -errno.ENOENT, b"", b"")
    assert found[:7] == [
        ("shop:all", "colour", 2, 13, 0),
        ("shop:all", "items", 0, 13, 0),
        ("shop:all", "_items_length", 1, 13, 0),
        ("shop:all", "text", 4, 13, 0),
        ("shop:all", "real", 3, 13, 0),
        ("shop:all", "n", 1, 13, 0),
        ("shop:none", "", 0, 2, 1),
    ]
    # An array of characters is text.
    assert ("lttng_ust_statedump:procname", "procname", 4, 13, 0) in found
    assert len(found) == 7 + 2 + 1 + 3 + 3 + 6
    # Nobody was asked for the id of the enumeration.
    assert daemon.requests == []


def test_quiescent_waits_for_emissions_without_the_lock(
    process: Process, daemon: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def declared(name: str) -> None:
        declare(process, name)

    def quiesce(timeout_ms: int) -> bool:
        # It needs the lock, and may be what the emission waits for.
        thread = threading.Thread(target=declared, args=("shop:order",))
        thread.start()
        thread.join()
        return True

    monkeypatch.setattr(emit, "quiesce", quiesce)
    assert daemon.try_(application.wait_quiescent())[:2] == (0, 0)


def test_emissions_that_do_not_end_are_not_said_to_have_ended(
    daemon: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emit, "quiesce", lambda timeout_ms: False)
    assert daemon.try_(application.wait_quiescent())[:2] == (-1024, -errno.ETIMEDOUT)


def test_descriptors_of_refused_commands_are_closed(daemon: FakeRegistry) -> None:
    session = daemon.session()
    made = daemon.make_channel(session)
    before = os.listdir("/proc/self/fd")
    pipe = daemon.pipe()
    answers = [
        daemon.try_(application.channel(made.handle, made.blob, pipe)),
        daemon.try_(application.channel(session, bytes(1000), pipe)),
        daemon.try_(application.stream(session, 0, 1, pipe, pipe)),
        # Too many streams.
        daemon.try_(application.stream(made.handle, 0, 1, pipe, pipe)),
    ]
    assert {answer[:2] for answer in answers} == {INVALID}
    assert len(os.listdir("/proc/self/fd")) == len(before) + 2


def test_only_channels_of_data_and_rules_for_tracepoints(daemon: FakeRegistry) -> None:
    session = daemon.session()
    made = daemon.make_channel(session)
    for command, values in (
        # 1 would be metadata; a probe of the kernel.
        (
            application.channel(session, made.blob, daemon.pipe()),
            struct.pack("<Qi", len(made.blob), 1),
        ),
        (application.event(made.handle, "*"), struct.pack("<i", 1)),
    ):
        head, *rest = command.steps
        raw = head.data[:40] + values + head.data[40 + len(values) :]
        fds = [os.dup(fd) for step in rest for fd in step.fds]
        data = b"".join(step.data for step in rest if not step.fds)
        assert daemon.raw(raw, data, fds)[:2] == INVALID


def test_a_registry_that_left_has_no_part_in_what_follows(
    process: Process, daemon: FakeRegistry
) -> None:
    daemon.recording()
    daemon.dispatcher.close()
    assert process.listeners == []
    assert not declare(process, "shop:order").native.enabled
    daemon.dispatcher.close()


def test_flush_closes_the_packet_being_written(process: Process, daemon: FakeRegistry) -> None:
    order = declare(process, "shop:order", number=u32)
    _, made = daemon.recording("shop:*")
    order(1)
    assert daemon.send(made.handle, CommandNumber.FLUSH_BUFFER).ret_code == 0
    control = made.geometry.layout.control
    positions = [control.get(memory, 0, "offset") for memory in made.memories]
    # Those without an event too, as when a consumer switches: a packet of its header only.
    assert positions == [made.geometry.subbuf_size] * len(positions)
