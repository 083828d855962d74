# SPDX-License-Identifier: MIT
"""Declaring tracepoints: names, types, levels, and what is refused."""

from __future__ import annotations

import threading
from enum import IntEnum

import pytest
from helpers.tracing import FakeRegistry

from ustconsumer.abi.loglevels import LOGLEVELS
from ustconsumer.protocol.notify import EventRequest
from ustconsumer.tracer import (
    Level,
    Provider,
    enumeration,
    f32,
    f64,
    i8,
    provider,
    sequence,
    string,
    u8,
    u16,
    u32,
    u64,
)
from ustconsumer.tracer.process import Process


def test_an_event_of_three_fields(recorder: FakeRegistry) -> None:
    _, made = recorder.recording("shop:*")
    order = Provider("shop").tracepoint("order", number=u32, item=string, price=f64)
    assert order.name == "shop:order"
    assert order.enabled
    order(1, "tea", 2.5)
    order(2, price=0.5, item="milk")
    assert recorder.values(made) == [
        ("shop:order", {"number": 1, "item": "tea", "price": 2.5}),
        ("shop:order", {"number": 2, "item": "milk", "price": 0.5}),
    ]


def test_nobody_records(program: Process) -> None:
    order = Provider("shop").tracepoint("order", number=u32)
    assert not order.enabled
    order(1)
    # Not even the values are looked at.
    order("tea", unknown=1)


def test_the_first_provider_starts_the_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process()
    started: list[str] = []
    monkeypatch.setattr(process, "start", lambda: started.append("start"))
    monkeypatch.setattr(provider, "process", process)
    Provider("shop")
    assert started == ["start"]


def test_fields_called_like_parameters(recorder: FakeRegistry) -> None:
    _, made = recorder.recording()
    point = Provider("p").tracepoint(
        "e", fields={"level": u8, "fields": u8}, name=string, self=u8, record=u8
    )
    point(level=1, fields=2, name="n", self=3, record=4)
    (event,) = recorder.values(made)
    assert event == ("p:e", {"level": 1, "fields": 2, "name": "n", "self": 3, "record": 4})
    assert list(event[1]) == ["level", "fields", "name", "self", "record"]


@pytest.mark.parametrize(
    ("level", "number"),
    [
        ("emerg", 0),
        ("CRITICAL", 2),
        ("error", 3),
        ("warn", 4),
        ("Info", 6),
        ("debug-function", 12),
        ("debug_line", 13),
        ("debug", 14),
        (9, 9),
        (Level.NOTICE, 5),
    ],
)
def test_levels(program: Process, level: int | str, number: int) -> None:
    Provider("p").tracepoint("e", level=level)
    assert program.declared["p:e"].loglevel == number


def test_levels_are_those_of_the_trace() -> None:
    ours = {name: number for name, number in vars(Level).items() if name.isupper()}
    assert ours == {name: number for number, name in enumerate(LOGLEVELS)}


def test_level_and_uri_reach_the_registry(recorder: FakeRegistry) -> None:
    recorder.recording()
    Provider("p").tracepoint("e", level="info", model_uri="http://example.com/e?a=1", x=u8)
    Provider("p").tracepoint("plain")
    told = {each.name: each for each in recorder.requests if isinstance(each, EventRequest)}
    assert told["p:e"].loglevel == 6
    assert told["p:e"].model_emf_uri == "http://example.com/e?a=1"
    assert told["p:plain"].loglevel == 13
    assert told["p:plain"].model_emf_uri == ""
    # Two events of one name and other fields are two: the signature tells them apart.
    assert told["p:e"].signature == "u8, x"


class Colour(IntEnum):
    """For a field."""

    RED = 1
    GREEN = 2


def test_types_of_python_and_ours(recorder: FakeRegistry) -> None:
    _, made = recorder.recording()
    point = Provider("p").tracepoint(
        "e", a=int, b=float, c=str, d=bytes, e=bool, f=Colour, g=sequence(u16), h=i8, i=f32
    )
    point(-1, 0.25, "ü", b"\0\xff", True, Colour.GREEN, [1, 65535], -128, 0.5)
    ((_, values),) = recorder.values(made)
    assert values["a"] == -1
    assert values["b"] == 0.25
    assert values["c"] == "ü"
    assert list(values["d"]) == [0, 255]
    assert values["e"] == 1
    assert list(values["g"]) == [1, 65535]
    assert values["h"] == -128
    assert values["i"] == 0.5


def test_what_does_not_fit_names_the_field(recorder: FakeRegistry) -> None:
    recorder.recording()
    order = Provider("shop").tracepoint("order", number=u32, item=string)
    with pytest.raises(OverflowError, match=r"shop:order: field 'number'.* u32"):
        order(1 << 32, "tea")
    with pytest.raises(ValueError, match=r"shop:order: field 'item'.*NUL"):
        order(1, "a\0b")
    with pytest.raises(TypeError, match=r"shop:order: field 'item'"):
        order(1, 2)


def test_truncated_if_declared_so(recorder: FakeRegistry) -> None:
    _, made = recorder.recording()
    order = Provider("shop").tracepoint("order", truncate=True, number=u32, item=string)
    order((1 << 32) + 7, "a\0b")
    order(8, "\udc80")
    assert [values for _, values in recorder.values(made)] == [
        {"number": 7, "item": "a"},
        {"number": 8, "item": "?"},
    ]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a*", "é", 'a"', "a\\", "x" * 254, "a,b"])
def test_names_no_provider_has(program: Process, name: str) -> None:
    with pytest.raises(ValueError, match="provider"):
        Provider(name)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "*", "a\n", "x" * 251])
def test_names_no_event_has(program: Process, name: str) -> None:
    with pytest.raises(ValueError, match=r"event|tracepoint"):
        Provider("shop").tracepoint(name)
    assert not program.declared


def test_the_longest_names(program: Process) -> None:
    point = Provider("p" * 253).tracepoint("e")
    assert len(point.name) == 255
    Provider("shop").tracepoint("x" * 250, fields={"f" * 255: u8})


@pytest.mark.parametrize("name", ["", "a b", "1a", "é", "f" * 256, "a-b"])
def test_names_no_field_has(program: Process, name: str) -> None:
    with pytest.raises(ValueError, match="p:e: field"):
        Provider("p").tracepoint("e", fields={name: u8})


def test_length_of_a_sequence_clashes(program: Process) -> None:
    with pytest.raises(ValueError, match="sequence"):
        Provider("p").tracepoint("e", _a_length=u8, a=bytes)
    with pytest.raises(ValueError, match="sequence"):
        Provider("p").tracepoint("e", a=bytes, _a_length=u8)


def test_one_field_twice(program: Process) -> None:
    with pytest.raises(ValueError, match="'a' is given twice"):
        Provider("p").tracepoint("e", fields={"a": u8}, a=u8)


@pytest.mark.parametrize("kind", [list, 3, None, "u8", object(), dict])
def test_no_type_of_a_field(program: Process, kind: object) -> None:
    with pytest.raises(TypeError, match=r"p:e: field 'x'.* is no type of a field"):
        Provider("p").tracepoint("e", x=kind)


@pytest.mark.parametrize("level", ["loud", -1, 15])
def test_no_level(program: Process, level: int | str) -> None:
    with pytest.raises(ValueError, match=r"p:e: .*level"):
        Provider("p").tracepoint("e", level=level)


@pytest.mark.parametrize("level", [None, 1.0, True])
def test_no_number_of_a_level(program: Process, level: object) -> None:
    with pytest.raises(TypeError, match="is no level"):
        Provider("p").tracepoint("e", level=level)  # type: ignore[call-overload]


@pytest.mark.parametrize("uri", ["a b", 'http://"', "a\\", "a\n", "é", "a\0"])
def test_no_uri(program: Process, uri: str) -> None:
    with pytest.raises(ValueError, match="model URI"):
        Provider("p").tracepoint("e", model_uri=uri)


@pytest.mark.parametrize(
    "kind",
    [
        enumeration({"": 1}, name="x"),
        enumeration({"a" * 256: 1}, name="x"),
        enumeration({"a\n": 1}, name="x"),
        enumeration({"\ud800": 1}, name="x"),
        enumeration({"a": 1}, name="x" * 254),
        enumeration({"a": 1}, name="x y"),
        enumeration({"a": 256}, name="x", container=u8),
        enumeration({"a": -1}, name="x", container=u64),
    ],
)
def test_no_enumeration(program: Process, kind: object) -> None:
    with pytest.raises(ValueError, match=r"p:e: field 'x': .*enumeration"):
        Provider("p").tracepoint("e", x=kind)


def test_declared_again(program: Process) -> None:
    one = Provider("shop").tracepoint("order", number=u32, colour=Colour, tags=sequence(u8))
    two = Provider("shop").tracepoint("order", number=u32, colour=Colour, tags=sequence(u8))
    assert one is two


@pytest.mark.parametrize(
    "other",
    [
        {"number": u64},
        {"number": u32, "item": string},
        {},
        {"count": u32},
        {"number": u32.hex()},  # type: ignore[attr-defined]
        {"number": u32, "level": "info"},
        {"number": u32, "truncate": True},
        {"number": u32, "model_uri": "http://example.com"},
    ],
)
def test_declared_again_otherwise(program: Process, other: dict[str, object]) -> None:
    Provider("shop").tracepoint("order", number=u32)
    with pytest.raises(ValueError, match="'shop:order' is declared already"):
        Provider("shop").tracepoint("order", **other)  # type: ignore[call-overload]


def test_taken_back(recorder: FakeRegistry) -> None:
    _, made = recorder.recording()
    shop = Provider("shop")
    order = shop.tracepoint("order", number=u32)
    order(1)
    shop.close()
    assert not order.enabled
    order(2)
    again = shop.tracepoint("order", number=u64)
    assert again.enabled
    shop.close()
    assert [values["number"] for _, values in recorder.values(made)] == [1]


def test_threads_declare_at_once(recorder: FakeRegistry) -> None:
    recorder.recording()
    shop = Provider("shop")
    made: list[object] = []
    barrier = threading.Barrier(4)

    def declare() -> None:
        barrier.wait()
        made.extend(shop.tracepoint(f"e{number}", x=u8) for number in range(50))

    threads = [threading.Thread(target=declare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, made))) == 50
    assert sorted(recorder.events_asked()) == sorted(f"shop:e{number}" for number in range(50))
