# SPDX-License-Identifier: MIT
"""Messages of logging agents: bytes that were seen between LTTng and python3-lttngust."""

from __future__ import annotations

import pytest

from ustconsumer.errors import RemoteProtocolError, UsageError
from ustconsumer.protocol import agent
from ustconsumer.protocol.model import EventInfo


def test_registration() -> None:
    raw = bytes.fromhex("00000005 00007247 00000002 00000000")
    assert agent.decode_registration(raw).pid == 0x7247
    for wrong in ("00000003", "00000004", "00000006"):
        with pytest.raises(RemoteProtocolError, match="domain"):
            agent.decode_registration(bytes.fromhex(wrong) + raw[4:])
    with pytest.raises(RemoteProtocolError, match=r"version 3\.0"):
        agent.decode_registration(raw[:8] + bytes.fromhex("00000003 00000000"))


def test_commands() -> None:
    assert agent.list_loggers() == bytes.fromhex("0000000000000000 00000001 00000000")
    assert agent.registration_done() == bytes.fromhex("0000000000000000 00000004 00000000")
    event = EventInfo(pattern="beta", filter='msg == "dbg*"', domain=agent.PYTHON)
    text = b'(msg == "dbg*") && (logger_name == "beta")\0'
    name = b"beta".ljust(256, b"\0")
    assert agent.enable(event) == (
        (268 + len(text)).to_bytes(8, "big")
        + bytes.fromhex("00000002 00000000 00000000 00000000")
        + name
        + len(text).to_bytes(4, "big")
        + text
    )
    assert agent.disable(event)[16:] == name


def test_loggers() -> None:
    # As seen: ret 1, 11 bytes, 2 names.
    agent.decode_status(bytes.fromhex("00000001"))
    assert agent.decode_names_head(bytes.fromhex("0000000b 00000002")) == (11, 2)
    assert agent.decode_names(b"alpha\0beta\0", 2) == ["alpha", "beta"]
    assert agent.decode_names(b"", 0) == []


@pytest.mark.parametrize(
    "read",
    [
        lambda: agent.decode_status(bytes.fromhex("00000002")),
        lambda: agent.decode_names_head(bytes.fromhex("7fffffff 00000002")),
        lambda: agent.decode_names_head(bytes.fromhex("00000002 00000003")),
        lambda: agent.decode_names(b"alpha\0beta", 2),
        lambda: agent.decode_names(b"alpha\0beta\0", 3),
    ],
)
def test_answers_that_are_none(read: object) -> None:
    assert callable(read)
    with pytest.raises(RemoteProtocolError):
        read()


#: As ``lttng list`` shows them.
FILTERS = [
    (EventInfo(pattern="alpha"), 'logger_name == "alpha"'),
    (EventInfo(pattern="*"), ""),
    (EventInfo(pattern="al*"), 'logger_name == "al*"'),
    (
        EventInfo(pattern="a", loglevel_type=2, loglevel=30),
        '(logger_name == "a") && (int_loglevel == 30)',
    ),
    (
        EventInfo(pattern="beta", loglevel_type=1, loglevel=20, filter='msg == "inf*"'),
        '((msg == "inf*") && (logger_name == "beta")) && (int_loglevel >= 20)',
    ),
]


@pytest.mark.parametrize(("event", "whole"), FILTERS)
def test_filters(event: EventInfo, whole: str) -> None:
    traced = agent.traced_as(event)
    assert (traced.pattern, traced.filter) == ("lttng_python:*", whole)
    assert (traced.loglevel_type, traced.loglevel) == (0, -1)
    # And back: LTTng's files have the whole.
    own, event.filter = event.filter, whole
    assert agent.asked_for(event) == own


def test_what_cannot_be_in_a_filter() -> None:
    for name in ('a"b', "a\\b", "a\nb"):
        with pytest.raises(UsageError, match="no name of a logger"):
            agent.traced_as(EventInfo(pattern=name))


def test_levels() -> None:
    assert [agent.python_level(text) for text in ("WARNING", "python_info", "50")] == [30, 20, 50]
    for text in ("35", "LOUD", ""):
        with pytest.raises(UsageError, match="Unknown loglevel"):
            agent.python_level(text)
