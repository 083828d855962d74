# SPDX-License-Identifier: MIT
"""Tracepoints declared by classes: which fields they have, and what is emitted."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import Annotated, ClassVar, NamedTuple, NotRequired, Required, TypedDict

import pytest
from helpers.tracing import FakeRegistry

from ustconsumer.tracer import Provider, f64, i8, string, u8, u16, u32
from ustconsumer.tracer.process import Process
from ustconsumer.tracer.record import event_name, fields_of

# Not there when the program runs: the tracer knows its own names.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ustconsumer.tracer import i16


class Colour(enum.Enum):
    """For a field."""

    RED = 1
    GREEN = 2


@dataclass
class Base:
    """What an order inherits."""

    number: u32
    kind: ClassVar[str] = "not a field"
    seed: InitVar[int] = 0


@dataclass
class Order(Base):
    """An order."""

    item: string = ""
    price: f64 = 0.0
    tags: list[u16] = field(default_factory=list)
    where: Colour = Colour.RED
    small: i16 = 0
    narrow: Annotated[int, i8] = 0


class Cart(TypedDict):
    """The same as a dictionary."""

    number: u32
    item: Required[str]
    raw: bytes


class Point(NamedTuple):
    """The same as a tuple."""

    x: int
    y: float


@dataclass
class One:
    """A class with one field."""

    values: Sequence[u8]


@dataclass
class Empty:
    """A class without fields."""


def names(record: type) -> dict[str, str]:
    return {name: repr(kind) for name, kind in fields_of("p:e", record).items()}


def test_fields_of_a_dataclass() -> None:
    assert names(Order) == {
        "number": "u32",
        "item": "string",
        "price": "f64",
        "tags": "sequence(u16)",
        "where": "enumeration('colour')",
        "small": "i16",
        "narrow": "i8",
    }


def test_fields_of_a_typed_dictionary_and_a_named_tuple() -> None:
    assert names(Cart) == {"number": "u32", "item": "string", "raw": "sequence(u8)"}
    assert names(Point) == {"x": "i64", "y": "f64"}
    assert names(Empty) == {}


def test_annotations_that_are_no_strings() -> None:
    made = dataclass(type("Made", (), {"__annotations__": {"a": u8, "b": tuple[u16, ...]}}))
    assert names(made) == {"a": "u8", "b": "sequence(u16)"}


def test_emitting_a_dataclass(recorder: FakeRegistry) -> None:
    _, made = recorder.recording()
    order = Provider("shop").tracepoint(Order, level="info")
    assert order.name == "shop:order"
    assert order.enabled
    order(Order(7, 0, "tea", 2.5, [1, 2], Colour.GREEN, -3, -4))
    # Anything with the attributes will do.
    order(Order(number=8))
    ((_, first), (_, second)) = recorder.values(made)
    assert (first["number"], first["item"], first["price"]) == (7, "tea", 2.5)
    assert (list(first["tags"]), first["small"], first["narrow"]) == ([1, 2], -3, -4)
    assert second["number"] == 8


def test_emitting_a_dictionary_and_a_tuple(recorder: FakeRegistry) -> None:
    _, made = recorder.recording()
    shop = Provider("shop")
    shop.tracepoint("filled", Cart)({"number": 1, "item": "tea", "raw": b"ab"})
    shop.tracepoint(Point)(Point(1, 2.5))
    shop.tracepoint(One)(One([1, 2]))
    shop.tracepoint(Empty)(Empty())
    values = [
        (
            name,
            {key: list(value) if key in ("raw", "values") else value for key, value in it.items()},
        )
        for name, it in recorder.values(made)
    ]
    assert [each for each in values if each[0] != "shop:filled"] == [
        ("shop:point", {"x": 1, "y": 2.5}),
        ("shop:one", {"_values_length": 2, "values": [1, 2]}),
        ("shop:empty", {}),
    ]
    ((_, filled),) = [each for each in values if each[0] == "shop:filled"]
    assert (filled["number"], filled["item"], filled["raw"]) == (1, "tea", [97, 98])


def test_the_tracepoint_itself(recorder: FakeRegistry) -> None:
    _, made = recorder.recording()
    point = Provider("shop").tracepoint(Point)
    point.emit(1, y=2.5)
    assert recorder.values(made) == [("shop:point", {"x": 1, "y": 2.5})]
    assert point.record is Point


def test_nobody_records(program: Process) -> None:
    order = Provider("shop").tracepoint(Order)
    assert not order.enabled
    order(Order(1))


def test_another_object(recorder: FakeRegistry) -> None:
    recorder.recording()
    shop = Provider("shop")
    order, cart = shop.tracepoint(Order), shop.tracepoint(Cart)
    with pytest.raises(TypeError, match=r"shop:order\(\) takes a Order, not int"):
        order(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"shop:cart\(\) lacks a value for item"):
        cart({"number": 1, "raw": b""})  # type: ignore[typeddict-item]
    with pytest.raises(TypeError, match=r"shop:cart\(\) takes a Cart, not int"):
        cart(3)  # type: ignore[arg-type]
    with pytest.raises(OverflowError, match=r"shop:order: field 'number'"):
        order(Order(-1))


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("int | None", "is no type of a field"),
        ("Missing", "annotation 'Missing': NameError"),
        ("1 +", "annotation '1 [+]': SyntaxError"),
        (dict, "is no type of a field"),
        (tuple[int, str], "is no type of a field"),
        (list[str], "only integers"),
        (list, "is no type of a field"),
    ],
)
def test_annotations_that_are_no_types_of_fields(annotation: object, text: str) -> None:
    made = dataclass(type("Made", (), {"__annotations__": {"a": annotation}}))
    with pytest.raises(TypeError, match=rf"p:e: field 'a' of Made: .*{text}"):
        fields_of("p:e", made)


def test_classes_without_fields(program: Process) -> None:
    class Plain:
        a: u8

    class Optional(TypedDict, total=False):
        a: u8

    class Partly(TypedDict):
        a: NotRequired[u8]

    shop = Provider("shop")
    with pytest.raises(TypeError, match="Plain is no dataclass"):
        shop.tracepoint(Plain)
    with pytest.raises(TypeError, match="Optional need not have a"):
        shop.tracepoint(Optional)
    # Told apart by the annotation: as text it is no optional key to Python.
    with pytest.raises(TypeError, match="field 'a' of Partly: it need not be there"):
        shop.tracepoint(Partly)
    with pytest.raises(TypeError, match="is neither an event's name nor a class"):
        shop.tracepoint(3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="is no class"):
        shop.tracepoint("e", 3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not from both"):
        shop.tracepoint("e", Order, x=u8)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("Order", "order"),
        ("OrderPlaced", "order_placed"),
        ("HTTPRequest", "http_request"),
        ("order", "order"),
        ("_Order2Go", "_order2_go"),
        ("HTTP", "http"),
        ("A_B", "a_b"),
    ],
)
def test_names_after_classes(name: str, event: str) -> None:
    assert event_name(type(name, (), {})) == event
