# SPDX-License-Identifier: MIT
"""Sessions, channels and rules of a registry: what is asked for, what is recorded."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from typing import Any

import pytest
from helpers.tracing import FakeRegistry, declare, pipe_signals, registry

from ustconsumer.protocol import application
from ustconsumer.protocol.contexts import parse_context
from ustconsumer.protocol.notify import ChannelRequest, EnumRequest, EventRequest
from ustconsumer.tracer import contexts
from ustconsumer.tracer.channel import blocking_allowed
from ustconsumer.tracer.process import Process
from ustconsumer.tracer.types import enumeration, f64, i16, sequence, string, u8, u32

#: Codes of the replies of liblttng-ust 2.13.5, with the raw value beside.
BUSY = (-1024, -errno.EBUSY)
INVALID = (-1027, -errno.EINVAL)
NOT_PERMITTED = (-1028, -errno.EPERM)


# -- recording ---------------------------------------------------------------------------


def test_an_event_is_recorded_with_its_fields(process: Process, daemon: FakeRegistry) -> None:
    order = declare(process, "shop:order", number=u32, item=string)
    assert not order.native.enabled
    _, made = daemon.recording()
    assert order.native.enabled
    order(1, "tea")
    assert daemon.values(made) == [("shop:order", {"number": 1, "item": "tea"})]


def test_events_are_registered_before_channels(process: Process, daemon: FakeRegistry) -> None:
    declare(process, "shop:order")
    daemon.recording()
    kinds = [type(request) for request in daemon.requests]
    # Six of the state dump.
    assert kinds == [*[EventRequest] * 7, ChannelRequest]


def test_what_is_declared_later_is_registered_then(process: Process, daemon: FakeRegistry) -> None:
    _, made = daemon.recording("shop:*")
    order = declare(process, "shop:order", number=u32)
    other = declare(process, "bank:order", number=u32)
    assert daemon.events_asked() == ["shop:order"]
    order(3)
    other(4)
    assert daemon.values(made) == [("shop:order", {"number": 3})]
    assert not other.native.enabled


def test_an_event_in_two_channels_is_recorded_in_each(
    process: Process, daemon: FakeRegistry
) -> None:
    order = declare(process, "shop:order", number=u32)
    session = daemon.session()
    one, two = (daemon.make_channel(session, id=number) for number in (1, 2))
    for made in (one, two):
        daemon.rule(made.handle)
    daemon.do(application.enable(session))
    order(5)
    assert daemon.events_asked(one.handle) == daemon.events_asked(two.handle) == ["shop:order"]
    assert daemon.values(one) == daemon.values(two) == [("shop:order", {"number": 5})]


def test_two_registries_record_side_by_side(process: Process, daemon: FakeRegistry) -> None:
    order = declare(process, "shop:order", number=u32)
    _, made = daemon.recording()
    with registry(process) as other:
        _, theirs = other.recording()
        order(1)
        assert other.values(theirs) == [("shop:order", {"number": 1})]
    order(2)
    assert [fields["number"] for _, fields in daemon.values(made)] == [1, 2]


def test_one_event_wanted_by_two_rules_is_recorded_once(
    process: Process, daemon: FakeRegistry
) -> None:
    order = declare(process, "shop:order", number=u32)
    _, made = daemon.recording("shop:*")
    daemon.rule(made.handle, "*:order")
    order(1)
    assert len(daemon.values(made)) == 1
    assert daemon.events_asked() == ["shop:order"]


def test_fields_are_described_as_liblttng_ust_does(process: Process, daemon: FakeRegistry) -> None:
    colour = enumeration({"red": 0, "warm": (1, 9)}, name="colour", container=u8)
    order = declare(
        process,
        "shop:order",
        level=4,
        uri="http://example.com",
        price=f64,
        parts=sequence(i16),
        raw=bytes,
        colour=colour,
    )
    _, made = daemon.recording("shop:order")
    order(0.5, [-1, 300], b"\x01\x02", "warm")
    (request,) = [r for r in daemon.requests if isinstance(r, EventRequest)]
    assert [field.name for field in request.fields] == [
        *("price", "_parts_length", "parts", "_raw_length", "raw", "colour"),
    ]
    assert (request.loglevel, request.model_emf_uri) == (4, "http://example.com")
    (enum,) = [r for r in daemon.requests if isinstance(r, EnumRequest)]
    assert enum.name == "shop_colour"
    ((_, fields),) = daemon.values(made)
    assert fields["parts"] == [-1, 300]
    assert fields["raw"] == [1, 2]
    assert fields["colour"].labels == ("warm",)


def test_an_enumeration_is_registered_once_per_session(
    process: Process, daemon: FakeRegistry
) -> None:
    colour = enumeration({"red": 0}, name="colour")
    declare(process, "shop:a", colour=colour)
    declare(process, "shop:b", colour=colour, again=colour)
    daemon.recording("shop:*")
    assert len([r for r in daemon.requests if isinstance(r, EnumRequest)]) == 1
    daemon.recording("shop:*", id=8)
    assert len([r for r in daemon.requests if isinstance(r, EnumRequest)]) == 2


def test_a_tracepoint_taken_back_and_declared_again_keeps_its_id(
    process: Process, daemon: FakeRegistry
) -> None:
    order = declare(process, "shop:order", number=u32)
    _, made = daemon.recording("shop:*")
    process.remove(order)  # type: ignore[arg-type]
    assert not order.native.enabled
    order(1)
    again = declare(process, "shop:order", number=u32)
    again(2)
    # A registry of buffers per process refuses to number the same event twice.
    assert daemon.events_asked() == ["shop:order"]
    assert daemon.values(made) == [("shop:order", {"number": 2})]
    assert daemon.records(made)[0].event.id == 0


def test_a_name_is_declared_once(process: Process) -> None:
    declare(process, "shop:order")
    with pytest.raises(ValueError, match="'shop:order' is declared already"):
        declare(process, "shop:order")


# -- on and off -----------------------------------------------------------------------------


def test_sessions_channels_and_rules_switch_recording(
    process: Process, daemon: FakeRegistry
) -> None:
    order = declare(process, "shop:order", number=u32)
    session = daemon.session()
    made = daemon.make_channel(session)
    rule = daemon.rule(made.handle)
    states = []
    for handle in (session, made.handle, rule):
        # A channel is born enabled, a session is not.
        if handle == session:
            assert daemon.try_(application.disable(handle))[:2] == BUSY
            daemon.do(application.enable(handle))
        twice = BUSY if handle != rule else (0, 0)
        assert daemon.try_(application.enable(handle))[:2] == twice
        daemon.do(application.disable(handle))
        states.append(order.native.enabled)
        assert daemon.try_(application.disable(handle))[:2] == twice
        daemon.do(application.enable(handle))
        states.append(order.native.enabled)
    assert states == [False, True] * 3
    assert daemon.events_asked() == ["shop:order"]
    assert len([r for r in daemon.requests if isinstance(r, ChannelRequest)]) == 1


def test_a_rule_enabled_in_an_active_session_registers_at_once(
    process: Process, daemon: FakeRegistry
) -> None:
    declare(process, "shop:order")
    bank = declare(process, "bank:order")
    _, made = daemon.recording("shop:*")
    rule = daemon.do(application.event(made.handle, "bank:*"))
    daemon.do(application.exclusion(rule, ["bank:robbery"]))
    assert daemon.events_asked() == ["shop:order"]
    daemon.do(application.enable(rule))
    assert daemon.events_asked() == ["shop:order", "bank:order"]
    assert bank.native.enabled


def test_a_rule_enabled_while_stopped_registers_at_the_next_start(
    process: Process, daemon: FakeRegistry
) -> None:
    declare(process, "bank:order")
    session, made = daemon.recording("shop:*")
    daemon.do(application.disable(session))
    daemon.rule(made.handle, "bank:*")
    late = declare(process, "bank:late")
    assert daemon.events_asked() == []
    assert not late.native.enabled
    daemon.do(application.enable(session))
    assert daemon.events_asked() == ["bank:order", "bank:late"]


# -- misuse by the registry ---------------------------------------------------------------------


def test_a_channel_wants_all_its_streams_first(process: Process, daemon: FakeRegistry) -> None:
    session = daemon.session()
    blob = daemon.make_channel(session).blob
    handle = daemon.do(application.channel(session, blob, daemon.pipe()))
    for command in (
        application.event(handle, "*"),
        application.context(handle, parse_context("vpid")),
        application.enable(handle),
    ):
        assert daemon.try_(command)[:2] == NOT_PERMITTED


def test_streams_come_in_order_and_long_enough(process: Process, daemon: FakeRegistry) -> None:
    session = daemon.session()
    complete = daemon.make_channel(session)
    size = complete.geometry.file_size
    handle = daemon.do(application.channel(session, complete.blob, daemon.pipe()))
    fd, short = os.memfd_create("test"), os.memfd_create("short")
    os.ftruncate(fd, size)
    os.ftruncate(short, size - 1)
    wrong = [
        application.stream(handle, 1, size, fd, daemon.pipe()),
        application.stream(handle, 0, size - 1, fd, daemon.pipe()),
        # Says more than there is.
        application.stream(handle, 0, size, short, daemon.pipe()),
        application.stream(complete.handle, len(complete.memories), size, fd, daemon.pipe()),
    ]
    for command in wrong:
        assert daemon.try_(command)[:2] == INVALID
    # liblttng-ust aborts after such an error; we go on.
    daemon.do(application.stream(handle, 0, size, fd, daemon.pipe()))
    assert daemon.try_(application.stream(handle, 0, size, fd, daemon.pipe()))[:2] == INVALID
    os.close(fd)
    os.close(short)


def test_no_channel_and_no_context_once_a_session_was_active(
    process: Process, daemon: FakeRegistry
) -> None:
    session, made = daemon.recording()
    daemon.do(application.disable(session))
    assert daemon.try_(application.channel(session, made.blob, daemon.pipe()))[:2] == BUSY
    assert daemon.try_(application.context(made.handle, parse_context("vpid")))[:2] == NOT_PERMITTED


def test_a_context_is_added_once(daemon: FakeRegistry) -> None:
    made = daemon.make_channel(daemon.session(), contexts=("vpid",))
    assert daemon.try_(application.context(made.handle, parse_context("vpid")))[0] == -1026


def test_channels_of_a_session_have_one_uuid(daemon: FakeRegistry) -> None:
    session = daemon.session()
    daemon.make_channel(session)
    other = daemon.make_channel(daemon.session(), uuid=bytes(16))
    assert daemon.try_(application.channel(session, other.blob, daemon.pipe()))[:2] == INVALID


def test_an_event_that_is_refused_is_not_recorded_others_are(
    process: Process, daemon: FakeRegistry
) -> None:
    bad, good = declare(process, "shop:bad"), declare(process, "shop:good")
    daemon.refuse["shop:bad"] = errno.EINVAL
    daemon.recording()
    assert (bad.native.enabled, good.native.enabled) == (False, True)


def test_an_enumeration_that_is_refused_takes_its_events_along(
    process: Process, daemon: FakeRegistry
) -> None:
    colour = enumeration({"red": 0}, name="colour")
    bad, good = declare(process, "shop:bad", colour=colour), declare(process, "shop:good")
    daemon.refuse["shop_colour"] = errno.ENOMEM
    daemon.recording()
    assert (bad.native.enabled, good.native.enabled) == (False, True)


@pytest.mark.parametrize("wrong", ["refused", "id", "header", "gone"])
def test_a_session_whose_channel_cannot_be_registered_stays_inactive(
    process: Process, daemon: FakeRegistry, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = declare(process, "shop:order")
    session = daemon.session()
    made = daemon.make_channel(session)
    daemon.rule(made.handle)
    if wrong == "refused":
        daemon.refuse[made.handle] = errno.EINVAL
    elif wrong == "gone":
        daemon.gone = True
    elif wrong == "header":
        daemon.header_type = 3
    else:
        monkeypatch.setattr(daemon, "channel", lambda request: (made.id + 1, 2))
    expected = (-1024, -errno.EIO) if wrong == "gone" else INVALID
    assert daemon.try_(application.enable(session))[:2] == expected
    assert not order.native.enabled


def test_declaring_when_the_registry_is_gone_is_no_error(
    process: Process, daemon: FakeRegistry
) -> None:
    daemon.recording()
    daemon.gone = True
    assert not declare(process, "shop:order").native.enabled


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_handles_are_released_in_any_order(
    process: Process, daemon: FakeRegistry, order: tuple[int, ...]
) -> None:
    point = declare(process, "shop:order", number=u32)
    session = daemon.session()
    made = daemon.make_channel(session)
    rule = daemon.rule(made.handle)
    daemon.do(application.enable(session))
    handles = (session, made.handle, rule)
    for index in order:
        daemon.do(application.release(handles[index]))
        point(1)
        # Until the rule is gone, whatever else is.
        assert point.native.enabled == (2 not in order[: order.index(index) + 1])
    # Free again, the last one freed first.
    assert daemon.session() in handles


def test_a_released_handle_kept_by_children_is_not_released_twice(daemon: FakeRegistry) -> None:
    session = daemon.session()
    daemon.make_channel(session)
    daemon.do(application.release(session))
    assert daemon.try_(application.release(session))[:2] == INVALID


# -- contexts ----------------------------------------------------------------------------------


def test_contexts_come_before_the_fields(process: Process, daemon: FakeRegistry) -> None:
    order = declare(process, "shop:order", number=u32)
    names = ("vpid", "procname", "vuid", "pid_ns", "ip")
    _, made = daemon.recording("shop:*", contexts=names)
    order(1)
    (record,) = daemon.records(made)
    assert list(record.context) == list(names)
    assert record.context["vpid"] == os.getpid()
    assert record.context["vuid"] == os.getuid()
    assert record.context["pid_ns"] == os.stat("/proc/self/ns/pid").st_ino
    assert record.context["ip"] == 0
    assert record.fields == {"number": 1}


def _app_context(daemon: FakeRegistry, channel: int, name: str) -> Any:
    """Add ``$app.name`` as a registry asks for it."""
    provider, context = (part.encode() + b"\0" for part in name.split(":"))
    head = len(provider).to_bytes(4, "little") + len(context).to_bytes(4, "little")
    payload = (7).to_bytes(4, "little") + bytes(16) + head
    return daemon.send(channel, 0x70, payload, provider + context)


def test_an_application_context_has_the_value_of_the_moment(
    process: Process, daemon: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "_applications", {})
    order = declare(process, "shop:order")
    session = daemon.session()
    made = daemon.make_channel(session)
    assert _app_context(daemon, made.handle, "shop:customer").ret_code == 0
    assert _app_context(daemon, made.handle, "shop:customer").ret_code == -1026
    daemon.rule(made.handle, "shop:*")
    daemon.do(application.enable(session))
    order()
    values = iter(("Ann", 7, 0.5, None))
    contexts.register("shop:customer", lambda: next(values))
    for _ in range(4):
        order()
    found = [record.context["$app.shop:customer"] for record in daemon.records(made)]
    # Unknown, as the last one is, until it is registered.
    assert found == [{}, "Ann", 7, 0.5, {}]
    (enum,) = [r for r in daemon.requests if isinstance(r, EnumRequest)]
    assert enum.name == "dynamic_type_enum"


def test_an_unknown_context_is_refused(daemon: FakeRegistry) -> None:
    made = daemon.make_channel(daemon.session())
    for number in (5, 22, -1):
        payload = number.to_bytes(4, "little", signed=True)
        assert daemon.send(made.handle, 0x70, payload)[:2] == INVALID


# -- blocking ----------------------------------------------------------------------------------


def test_blocking_needs_the_consent_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LTTNG_UST_ALLOW_BLOCKING", raising=False)
    assert not blocking_allowed()
    monkeypatch.setenv("LTTNG_UST_ALLOW_BLOCKING", "")
    assert blocking_allowed()
    # A set-uid program does not listen to whoever started it.
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not blocking_allowed()


def test_without_consent_a_full_buffer_loses_events(
    process: Process, daemon: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LTTNG_UST_ALLOW_BLOCKING", raising=False)
    order = declare(process, "shop:order", payload=bytes)
    options: dict[str, Any] = {"subbuf_size": 4096, "blocking_timeout_us": -1}
    _, made = daemon.recording(**options)
    for _ in range(20 * len(made.memories)):
        order(bytes(3000))
    control = made.geometry.layout.control
    assert sum(control.get(memory, 0, "lost_full") for memory in made.memories) > 0


@pytest.mark.parametrize("blocked", [False, True])
def test_a_wake_up_that_nobody_reads_is_no_signal(
    process: Process, daemon: FakeRegistry, blocked: bool
) -> None:
    order = declare(process, "shop:order", payload=bytes)
    _, made = daemon.recording(subbuf_size=4096, active_readers=1)
    daemon.stop_reading()
    with pipe_signals(blocked) as seen:
        for _ in range(4 * len(made.memories)):
            order(bytes(3000))
    # A sub-buffer was filled, so a byte was written for whoever reads.
    assert any(made.geometry.layout.control.get(m, 0, "offset") > 4096 for m in made.memories)
    assert seen == []


# -- the process ---------------------------------------------------------------------------------


def test_a_forked_child_forgets_registries_and_keeps_what_is_declared(
    process: Process, daemon: FakeRegistry
) -> None:
    order = declare(process, "shop:order")
    daemon.recording(contexts=("net_ns",))
    # The child may be born into others.
    contexts._inodes["net_ns"] = 1
    thread = threading.Thread(target=process.lock.acquire)
    thread.start()
    thread.join()
    process.forget()
    # Whoever held the lock is no thread of the child.
    assert process.lock.acquire(timeout=0)
    process.lock.release()
    assert not order.native.enabled
    assert list(process.declared) == ["shop:order"]
    assert process.listeners == []
    assert contexts.native("net_ns") == ("u64", os.stat("/proc/self/ns/net").st_ino)
    with registry(process) as new:
        new.recording()
        assert order.native.enabled
