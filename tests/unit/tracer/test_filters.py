# SPDX-License-Identifier: MIT
"""Filters and captures of commands: which events pass, what is told of them.

The bytecode is what the real ``lttng`` made of the expressions beside it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from helpers.tracing import Declaration, FakeRegistry, declare

from ustconsumer.abi.application import APPLICATION_LAYOUTS, CommandNumber
from ustconsumer.protocol import application
from ustconsumer.tracer.process import Process
from ustconsumer.tracer.types import enumeration, f64, sequence, string, u16, u32


def legacy(name: str, comparison: str, at: int = 0) -> tuple[bytes, int]:
    """``name == literal``: a reference to a field, what it is compared with, return."""
    code = bytes.fromhex("3bffff" + comparison + "01")
    return code + at.to_bytes(2, "little") + name.encode() + b"\0", len(code)


def equal(value: int, name: str = "number") -> tuple[bytes, int]:
    return legacy(name, "41" + value.to_bytes(8, "little").hex() + "0c")


def prefix(text: str, name: str) -> tuple[bytes, int]:
    return legacy(name, "40" + text.encode().hex() + "2a00" + "0c")


def payload(name: str) -> tuple[bytes, int]:
    """A capture of a field."""
    return b"\x51\x52\x02\x00\x01\x01\x00" + name.encode() + b"\0", 5


def context(name: str) -> tuple[bytes, int]:
    """A capture of ``$ctx.name``."""
    return b"\x4f\x52\x02\x00\x01\x01\x00" + name.encode() + b"\0", 5


def capture(daemon: FakeRegistry, notifier: int, code: tuple[bytes, int], seqnum: int) -> Any:
    values = {"length": len(code[0]), "reloc_offset": code[1], "seqnum": seqnum}
    raw = APPLICATION_LAYOUTS[9].bytecode.pack(values)
    return daemon.send(notifier, CommandNumber.CAPTURE, raw, code[0])


@pytest.fixture
def order(process: Process) -> Declaration:
    return declare(process, "shop:order", number=u32)


def filtered(daemon: FakeRegistry, channel: int, *codes: tuple[bytes, int]) -> int:
    """Make a rule with filters and enable it."""
    handle = daemon.do(application.event(channel, "shop:*"))
    for code in codes:
        daemon.do(application.filter_(handle, *code))
    daemon.do(application.enable(handle))
    return handle


def numbers(daemon: FakeRegistry, made: Any) -> list[int]:
    return [fields["number"] for _, fields in daemon.values(made)]


def test_one_filter_of_any_rule_is_enough(order: Declaration, daemon: FakeRegistry) -> None:
    session, made = daemon.recording("bank:*")
    first = filtered(daemon, made.handle, equal(1), equal(2))
    second = filtered(daemon, made.handle, equal(3))
    for number in range(5):
        order(number)
    assert numbers(daemon, made) == [1, 2, 3]
    daemon.do(application.disable(first))
    order(1)
    order(3)
    assert numbers(daemon, made) == [1, 2, 3, 3]
    daemon.do(application.release(second))
    assert not order.native.enabled
    daemon.do(application.disable(session))


def test_a_rule_without_filter_lets_everything_pass(
    order: Declaration, daemon: FakeRegistry
) -> None:
    _, made = daemon.recording("bank:*")
    filtered(daemon, made.handle, equal(1))
    plain = filtered(daemon, made.handle)
    order(5)
    daemon.do(application.disable(plain))
    order(6)
    order(1)
    assert numbers(daemon, made) == [5, 1]


@pytest.mark.parametrize("code", [(b"\xff\xfe\xfd", 3), equal(1, name="nothing")])
def test_a_filter_that_makes_no_sense_rejects_in_silence(
    order: Declaration, daemon: FakeRegistry, code: tuple[bytes, int]
) -> None:
    _, made = daemon.recording("bank:*")
    handle = filtered(daemon, made.handle, code)
    order(1)
    # Of two filters it is still the other that counts.
    daemon.do(application.filter_(handle, *equal(2)))
    order(2)
    assert numbers(daemon, made) == [2]


def test_a_filter_is_linked_to_each_event_by_itself(
    process: Process, daemon: FakeRegistry, order: Declaration
) -> None:
    item = declare(process, "shop:item", item=string, number=u16)
    other = declare(process, "shop:other", item=string)
    _, made = daemon.recording("bank:*")
    filtered(daemon, made.handle, equal(7))
    late = declare(process, "shop:late", price=f64, number=u32)
    for point in (order, late):
        values = (7,) if point is order else (0.5, 7)
        point(*values)
    item("tea", 7)
    item("tea", 8)
    other("tea")
    names = [name for name, _ in daemon.values(made)]
    assert sorted(names) == ["shop:item", "shop:late", "shop:order"]


def test_filters_of_the_state_dump_see_its_fields(daemon: FakeRegistry) -> None:
    daemon.do(application.register_done())
    name = Path("/proc/self/comm").read_text().strip()
    for expected, text in ((1, name[:3]), (0, "~" + name[:3])):
        session = daemon.session()
        made = daemon.make_channel(session, id=expected)
        handle = daemon.do(application.event(made.handle, "lttng_ust_statedump:*"))
        daemon.do(application.filter_(handle, *prefix(text, "procname")))
        daemon.do(application.enable(handle))
        daemon.do(application.enable(session))
        found = [record.fields for record in daemon.records(made, statedump=True)]
        assert found == [{"procname": name}] * expected


def test_notifiers_tell_what_passes_and_what_was_captured(
    process: Process, daemon: FakeRegistry
) -> None:
    colour = enumeration({"red": 0, "blue": 5}, name="colour")
    order = declare(
        process, "shop:order", number=u32, item=string, parts=sequence(u16), colour=colour
    )
    group, pipe = daemon.group()
    handle = daemon.notifier(group, "shop:*", 4242)
    daemon.do(application.filter_(handle, *equal(2)))
    wanted = ["number", "item", "parts", "colour", "nothing"]
    # Not in their order: the number says where each belongs.
    for position in (3, 0, 4, 2, 1):
        assert capture(daemon, handle, payload(wanted[position]), position).ret_code == 0
    assert capture(daemon, handle, context("vpid"), 5).ret_code == 0
    assert capture(daemon, handle, (b"\xff", 1), 6).ret_code == 0
    daemon.do(application.enable(handle))
    order(1, "milk", [], "red")
    order(2, "tea", [1, 65535], "blue")
    raw = os.read(pipe, 4096)
    assert int.from_bytes(raw[:8], "little") == 4242
    assert int.from_bytes(raw[8:10], "little") == len(raw) - 42
    assert msgspec.msgpack.decode(raw[42:]) == [
        2,
        "tea",
        [1, 65535],
        {"type": "enum", "value": 5},
        None,
        os.getpid(),
        None,
    ]
