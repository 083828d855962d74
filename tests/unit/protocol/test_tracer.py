# SPDX-License-Identifier: MIT
"""The application's side against a frozen session of liblttng-ust 2.13, and our registry's."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest
from helpers import captured
from hypothesis import given
from hypothesis import strategies as st

from ustconsumer.errors import LocalProtocolError, RemoteProtocolError
from ustconsumer.protocol import application, notify, tracer
from ustconsumer.protocol.contexts import parse_context
from ustconsumer.protocol.tracer import CommandNumber, ContextNumber, NotifyNumber

NUMBERS = {
    captured.EventRequest: NotifyNumber.EVENT,
    captured.ChannelRequest: NotifyNumber.CHANNEL,
    captured.EnumRequest: NotifyNumber.ENUM,
}


def command(handle: int, number: int, payload: bytes = b"") -> bytes:
    return struct.pack("<II32x572s", handle, number, payload)


def commands() -> list[bytes]:
    return [c.data for c in captured.command_socket() if len(c.data) == 612]


# -- registration --------------------------------------------------------------------


def test_registration_is_that_of_liblttng_ust() -> None:
    theirs = captured.command_socket()[0].data
    said = application.parse_registration(theirs)
    ours = tracer.registration(
        0, pid=said.pid, ppid=said.ppid, uid=said.uid, gid=said.gid, name=said.name.encode()
    )
    assert ours == theirs


def test_registration_cuts_the_name() -> None:
    raw = tracer.registration(1, pid=1, ppid=2, uid=3, gid=4, name=b"0123456789abcdefgh")
    said = application.parse_registration(raw)
    assert (said.name, said.socket_type, said.pid, said.gid) == ("0123456789abcde", 1, 1, 4)
    assert application.refusal(said) == ""


# -- commands ------------------------------------------------------------------------


def test_what_follows_each_command_of_lttng_sessiond() -> None:
    """The frozen conversation is read to its end: no byte too many, none too few."""
    calls = captured.command_socket()[1:]
    while calls:
        first = calls.pop(0)
        assert first.direction == "R"
        parsed = tracer.parse_command(first.data)
        if parsed.two_phase:
            confirmed = calls.pop(0)
            assert confirmed.direction == "S"
            assert confirmed.data == tracer.reply(parsed, *tracer.CONFIRMATION)
        if parsed.data_length:
            data = calls.pop(0)
            assert (data.direction, len(data.data)) == ("R", parsed.data_length)
        if parsed.fds:
            carrier = calls.pop(0)
            assert (carrier.data, carrier.descriptors) == (b"\0", parsed.fds)
        answer = calls.pop(0)
        assert (answer.direction, len(answer.data)) == ("S", application.REPLY_SIZE)


@pytest.mark.parametrize(
    ("sent", "values"),
    [
        (application.channel(3, b"x" * 920, 0), {"length": 920, "kind": 0}),
        (application.stream(4, 1, 28896, 0, 0), {"length": 28896, "number": 1}),
        (
            application.event(4, "shop:*", 2, 6),
            {"instrumentation": 0, "name": "shop:*", "loglevel_type": 2, "loglevel": 6, "token": 0},
        ),
        (application.context(4, parse_context("procname")), {"number": 3}),
        (application.filter_(5, b"x" * 26, 14), {"length": 26, "reloc_offset": 14, "seqnum": 0}),
        (application.exclusion(5, ["a", "b:*"]), {"count": 2}),
        (application.session(), {}),
        (application.wait_quiescent(), {}),
        (application.release(9), {}),
    ],
)
def test_commands_of_our_registry(sent: application.Command, values: dict[str, Any]) -> None:
    parsed = tracer.parse_command(sent.steps[0].data)
    assert (parsed.handle, parsed.number, parsed.values) == (sent.handle, sent.number, values)
    following = [step for step in sent.steps[1:] if not step.fds]
    assert parsed.data_length == sum(len(step.data) for step in following)
    assert parsed.fds == sum(len(step.fds) for step in sent.steps)
    assert not parsed.two_phase
    result = application.parse_reply(tracer.reply(parsed, 0, 7), sent)
    assert (result.ret_code, result.ret_val) == (0, 7)


@pytest.mark.parametrize(
    ("number", "payload", "length", "fds"),
    [
        (CommandNumber.EVENT_NOTIFIER_GROUP_CREATE, b"", 0, 1),
        (CommandNumber.EVENT_NOTIFIER_CREATE, struct.pack("<I", 612), 612, 0),
        (CommandNumber.CAPTURE, struct.pack("<IIQ", 17, 5, 1), 17, 0),
        (CommandNumber.COUNTER, struct.pack("<Q", 192), 192, 0),
        (CommandNumber.COUNTER_GLOBAL, struct.pack("<Q", 4096), 0, 1),
        (CommandNumber.COUNTER_CPU, struct.pack("<QI", 17408, 1), 0, 1),
    ],
)
def test_commands_of_two_phases(number: int, payload: bytes, length: int, fds: int) -> None:
    parsed = tracer.parse_command(command(1, number, payload))
    assert (parsed.data_length, parsed.fds, parsed.two_phase) == (length, fds, True)


def test_application_context() -> None:
    """``myprov\\0myctx\\0``, as ``lttng add-context -t '$app.myprov:myctx'`` sends it."""
    payload = struct.pack("<i16xII", ContextNumber.APP_CONTEXT, 7, 6)
    parsed = tracer.parse_command(command(4, CommandNumber.CONTEXT, payload))
    assert parsed.data_length == 13
    assert tracer.app_context_names(parsed.values, b"myprov\0myctx\0") == ("myprov", "myctx")
    with pytest.raises(RemoteProtocolError, match="without its NUL"):
        tracer.app_context_names(parsed.values, b"myprov\0myctxx")


def test_perf_context() -> None:
    payload = struct.pack("<i16xIQ256s", 5, 1, 1 << 40, b"perf_thread_task_clock")
    parsed = tracer.parse_command(command(4, CommandNumber.CONTEXT, payload))
    assert parsed.values == {
        "number": ContextNumber.PERF_THREAD_COUNTER,
        "type": 1,
        "config": 1 << 40,
        "name": "perf_thread_task_clock",
    }
    assert parsed.data_length == 0


def test_exclusion_names() -> None:
    sent = application.exclusion(5, ["a", "b:*"])
    assert tracer.exclusion_names(sent.steps[1].data) == ("a", "b:*")


def test_event_notifier() -> None:
    raw = struct.pack("<i256siiQ296xQ32x", 0, b"rich:*", 1, 4, 4242, 17)
    assert tracer.event_notifier(raw) == {
        "instrumentation": 0,
        "name": "rich:*",
        "loglevel_type": 1,
        "loglevel": 4,
        "token": 4242,
        "error_index": 17,
    }


def test_counter_of_lttng_sessiond() -> None:
    calls = captured.command_socket()
    at = next(i for i, c in enumerate(calls) if c.data in commands() and c.data[4] == 0xC0)
    conf = tracer.counter_conf(calls[at + 2].data)
    assert {name: value for name, value in conf.items() if value} == {"dimensions": 1, "size": 4096}


@pytest.mark.parametrize(
    ("number", "payload", "complaint"),
    [
        (CommandNumber.CHANNEL, struct.pack("<Q", (1 << 20) + 1), "1048577 bytes"),
        (CommandNumber.CHANNEL, struct.pack("<Q", 0), "0 bytes"),
        (CommandNumber.FILTER, struct.pack("<II", 65537, 0), "65537 bytes"),
        (CommandNumber.FILTER, struct.pack("<II", 10, 11), "symbols at 11"),
        (CommandNumber.CAPTURE, struct.pack("<II", 10, 11), "symbols at 11"),
        (CommandNumber.EXCLUSION, struct.pack("<I", 4097), "4097 names"),
        (CommandNumber.COUNTER, struct.pack("<Q", 4097), "4097 bytes"),
        (CommandNumber.COUNTER, struct.pack("<Q", 191), "191 bytes"),
        (CommandNumber.EVENT_NOTIFIER_CREATE, struct.pack("<I", 611), "611 bytes"),
        (CommandNumber.CONTEXT, struct.pack("<i16xII", 7, 7, 1), "names of 7, 1"),
        (CommandNumber.CONTEXT, struct.pack("<i16xII", 7, 200, 52), "names of 200, 52"),
        (CommandNumber.EVENT, struct.pack("<i256s", 0, b"x" * 256), "without its NUL"),
    ],
)
def test_commands_that_make_no_sense(number: int, payload: bytes, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        tracer.parse_command(command(1, number, payload))


def test_unknown_command_has_nothing_after_it() -> None:
    assert tracer.parse_command(command(2, 0x99, b"\xff" * 572)) == tracer.Command(2, 0x99, {})


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([n for k, n in vars(CommandNumber).items() if k.isupper()]) | st.integers(0, 9),
    st.binary(max_size=572),
)
def test_random_commands(handle: int, number: int, payload: bytes) -> None:
    try:
        parsed = tracer.parse_command(command(handle, number, payload))
    except RemoteProtocolError:
        return
    assert 0 <= parsed.data_length <= 1 << 20
    assert 0 <= parsed.fds <= 2


# -- replies -------------------------------------------------------------------------


def test_reply_is_that_of_liblttng_ust() -> None:
    calls = captured.command_socket()
    version = next(i for i, c in enumerate(calls) if c.data[4:8] == b"\x41\0\0\0")
    parsed = tracer.parse_command(calls[version].data)
    ours = tracer.reply(parsed, 0, 0, tracer.version_payload(2, 13, 5))
    assert ours == calls[version + 1].data


def test_lists() -> None:
    sent = application.tracepoint_list_get(4)
    parsed = tracer.parse_command(sent.steps[0].data)
    raw = tracer.reply(parsed, 0, 0, tracer.tracepoint_payload("shop:order", 13))
    entry = application.tracepoint_entry(application.parse_reply(raw, sent))
    assert entry == application.TracepointEntry("shop:order", 13)
    end = application.parse_reply(tracer.reply(parsed, *tracer.error_codes(errno.ENOENT)), sent)
    assert application.tracepoint_entry(end) is None
    assert tracer.field_entry("shop:order", "item", 4, 13, True) == struct.pack(
        "<256s256siii284x", b"shop:order", b"item", 4, 13, 1
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errno.ENOENT, -1025),
        (errno.EEXIST, -1026),
        (errno.EINVAL, -1027),
        (errno.EPERM, -1028),
        (errno.ENOSYS, -1029),
        (errno.EBUSY, -1024),
        (errno.ENOMEM, -1024),
    ],
)
def test_error_codes(error: int, code: int) -> None:
    assert tracer.error_codes(error) == (code, -error)


def test_replies_are_never_positive_codes() -> None:
    with pytest.raises(LocalProtocolError):
        tracer.reply(tracer.Command(0, 1, {}), 1)


def test_notification() -> None:
    """Token 4242 and the msgpack ``[2]``, as a program of 2.13 wrote it."""
    raw = tracer.notification(4242, b"\x91\x02")
    assert raw == struct.pack("<QH32x", 4242, 2) + b"\x91\x02"


# -- notify socket ---------------------------------------------------------------------


def test_requests_are_those_of_liblttng_ust() -> None:
    for item, theirs in zip(captured.answered(), captured.notify_messages(), strict=True):
        ours = tracer.request(item.request)
        if isinstance(item.request, captured.EnumRequest) and item.request.name == "fields_large":
            # Its first entry is of an unsigned C type: the value 0 does not tell.
            assert ours[308] == ours[332] == 1
            ours = ours[:308] + b"\0" + ours[309:332] + b"\0" + ours[333:]
        assert ours == theirs


def test_requests_return_as_they_were() -> None:
    wire = b"".join(tracer.request(item.request) for item in captured.answered())
    assert list(notify.NotifyDecoder().feed(wire)) == [r.request for r in captured.answered()]


def test_answers_of_lttng_sessiond() -> None:
    for item in captured.answered():
        number = NUMBERS[type(item.request)]
        header = 2 if number == NotifyNumber.CHANNEL else 0
        assert tracer.ANSWER_SIZES[number] == len(item.answer)
        assert tracer.parse_answer(item.answer, number) == tracer.Answer(0, item.id, header)


def test_answers_of_our_registry() -> None:
    assert tracer.parse_answer(notify.event_reply(-22, 0), NotifyNumber.EVENT).ret_code == -22
    assert tracer.parse_answer(notify.channel_reply(0, 5, 1), 1) == tracer.Answer(0, 5, 1)
    assert tracer.parse_answer(notify.enum_reply(0, 1 << 40), 2).id == 1 << 40


@pytest.mark.parametrize(
    ("raw", "number", "complaint"),
    [
        (bytes(44), NotifyNumber.ENUM, "44 bytes"),
        (notify.enum_reply(0, 0), NotifyNumber.CHANNEL, "another request"),
        (struct.pack("<IiI32x", 0, 22, 0), NotifyNumber.EVENT, "code 22"),
        (struct.pack("<IiII32x", 1, 0, 0, 3), NotifyNumber.CHANNEL, "type 3"),
    ],
)
def test_answers_that_make_no_sense(raw: bytes, number: int, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        tracer.parse_answer(raw, number)
