# SPDX-License-Identifier: MIT
"""Functions that go over the fields of a structure, compiled once per structure.

`Walk` writes the source of such a function; what it makes of the fields is up to a
subclass: values in `ustconsumer.ctf.decode`, text in `ustconsumer.ctf.text`. The source
consists of words of this module and its subclasses and of numbers. Whatever a trace
says (names, labels) reaches the function as an argument, never as source.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import CodeType
from typing import Any, Generic, TypeAlias, TypeVar

from ustconsumer.ctf.types import (
    Array,
    EnumEntry,
    Enumeration,
    Field,
    FieldType,
    FloatingPoint,
    Integer,
    Sequence,
    String,
    Struct,
    Variant,
)
from ustconsumer.errors import DecodeError

__all__ = ["Enums", "Read", "Walk", "declared", "fixed_size", "is_text", "labels"]

#: Entries of enumerations, by their id.
Enums: TypeAlias = Mapping[int, tuple[EnumEntry, ...]]
#: (bytes of a packet, where to begin) -> (what was read, where it ends). What leaves
#: the bytes is `struct.error`, `ValueError` or `IndexError`.
Read: TypeAlias = Callable[..., tuple[Any, int]]

#: What a subclass makes of a field.
P = TypeVar("P")

_CODES = {8: "b", 16: "h", 32: "i", 64: "q"}
_REALS = {(8, 24): "f", (11, 53): "d"}
#: Functions for arrays of other lengths are made each time.
_MANY = 64


def is_text(type_: Array | Sequence) -> bool:
    """Whether the elements are the bytes of a text."""
    element = type_.element
    return element.size == 8 and element.alignment == 8 and element.encoding != "none"


def declared(fields: Iterable[Field]) -> tuple[Field, ...]:
    """Return the fields with those that metadata declares in front of some for alignment."""
    result: list[Field] = []
    for field in fields:
        if isinstance(field.type, Array | Sequence | Variant) and field.type.alignment:
            padding = Struct((), field.type.alignment)
            result.append(Field(f"{field.name}_padding", padding))
        result.append(field)
    return tuple(result)


def labels(entries: Iterable[EnumEntry], type_: Integer, value: int) -> tuple[str, ...]:
    """Return the labels of an enumeration's value, each once, in order of declaration."""
    # Ranges are numbers of 64 bits of the container's sign, however they are written.
    wrap = 1 << 64
    half = wrap >> 1 if type_.signed else 0
    found: dict[str, bool] = {}
    for entry in entries:
        start = (entry.start + half) % wrap - half
        end = (entry.end + half) % wrap - half
        found[entry.label] = found.get(entry.label, False) or start <= value <= end
    return tuple(label for label, matches in found.items() if matches)


def fixed_size(fields: Iterable[Field]) -> int | None:
    """Return the bytes a structure always has, None if that depends on values or its place."""
    sizes = [_fixed(field.type) for field in declared(fields)]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _fixed(type_: FieldType) -> int | None:
    match type_:
        case Integer(size=size, alignment=1 | 8):
            return size // 8
        case FloatingPoint(alignment=1 | 8):
            return (type_.exp_dig + type_.mant_dig) // 8
        case Enumeration(container=container):
            return _fixed(container)
        case Array(element=element, length=length):
            one = _fixed(element)
            return None if one is None else one * length
        case Struct(alignment=0 | 1):
            return fixed_size(type_.fields)
    return None


def _alignment(type_: FieldType) -> int:
    """Return the alignment of a type, in bytes."""
    match type_:
        case Integer() | FloatingPoint():
            return max(type_.alignment // 8, 1)
        case Enumeration():
            return _alignment(type_.container)
        case Array() | Sequence():
            return _alignment(type_.element)
        case Struct():
            members = [_alignment(field.type) for field in declared(type_.fields)]
            return max([type_.alignment, 1, *members])
    return 1


class _Unpackers(dict[int, Callable[[bytes, int], tuple[Any, ...]]]):
    """By number of elements: a function that reads so many."""

    def __init__(self, order: str, code: str) -> None:
        self._order = order
        self._code = code

    def __missing__(self, count: int) -> Callable[[bytes, int], tuple[Any, ...]]:
        unpack = struct.Struct(f"{self._order}{count}{self._code}").unpack_from
        if len(self) < _MANY:
            self[count] = unpack
        return unpack


def _odd_integers(type_: Integer, count: int | None) -> Callable[..., Any]:
    """Return a reader of integers of 3, 5, 6 or 7 bytes: ``count`` or as many as it is told."""
    size = type_.size // 8
    order: Any = "big" if type_.reverse_byte_order else "little"

    def read(data: bytes, at: int, elements: int = count or 0) -> tuple[int, ...]:
        if elements * size > len(data) - at:
            raise IndexError("integers leave the packet")
        places = range(at, at + elements * size, size)
        return tuple(
            int.from_bytes(data[place : place + size], order, signed=type_.signed)
            for place in places
        )

    return read


@lru_cache(maxsize=512)
def _compiled(source: str) -> CodeType:
    return compile(source, "<walk over fields>", "exec")


class Walk(ABC, Generic[P]):
    """Writes one function of type `Read`.

    Parameters
    ----------
    enums : mapping of int to entries
        Those the fields refer to.
    """

    def __init__(self, enums: Enums) -> None:
        self._enums = enums
        self._lines: list[str] = []
        self._constants: list[object] = []
        self._variables = 0
        # Fixed size, next to each other, not read yet: (byte order, code, size, variable)
        self._run: list[tuple[str, str, int, str]] = []
        # Integers and enumerations read so far, innermost structure last.
        self._scopes: list[dict[str, tuple[str, Integer | Enumeration]]] = []

    @abstractmethod
    def integer(self, type_: Integer, value: str) -> P:
        """Return what is made of an integer, where ``value`` is a Python expression."""

    @abstractmethod
    def real(self, value: str) -> P:
        """... of a floating point number."""

    @abstractmethod
    def text(self, value: str) -> P:
        """... of bytes up to the first NUL in them, if there is one."""

    @abstractmethod
    def enumeration(self, type_: Integer, entries: tuple[EnumEntry, ...], value: str) -> P:
        """... of an integer with labels."""

    @abstractmethod
    def integers(self, type_: Integer, value: str, count: str) -> P:
        """... of a tuple of ``count`` integers, read with `element_code`."""

    @abstractmethod
    def struct(self, names: list[str], members: list[P]) -> P:
        """... of a structure."""

    @abstractmethod
    def variant(self, choice: str) -> P:
        """... of a variant, where ``choice`` is what `expression` gave for the selected one."""

    @abstractmethod
    def expression(self, piece: P) -> str:
        """Return the expression of what the function returns."""

    def element_code(self, type_: Integer) -> str:
        """Return how `struct` spells an element of arrays."""
        code = _CODES[type_.size]
        return code if type_.signed else code.upper()

    def constant(self, value: object) -> str:
        """Return the name under which the function finds a value."""
        self._constants.append(value)
        return f"k{len(self._constants) - 1}"

    def variable(self) -> str:
        self._variables += 1
        return f"v{self._variables}"

    def fields(self, fields: Iterable[Field]) -> P:
        """Go over a structure's members; return what is made of it."""
        return self._struct(Struct(tuple(fields)))

    def function(self, piece: P, parameters: tuple[str, ...] = ()) -> Read:
        """Return the function that was written; behind data and place it takes more parameters."""
        result = self.expression(piece)
        self._flush()
        constants = ", ".join(f"k{number}" for number in range(len(self._constants)))
        body = "".join(f"        {line}\n" for line in [*self._lines, f"return ({result}), at"])
        names = ", ".join(("data", "at", *parameters))
        source = f"def make({constants}):\n    def read({names}):\n{body}    return read\n"
        namespace: dict[str, Any] = {"__builtins__": {}}
        exec(_compiled(source), namespace)  # noqa: S102 (the words of this module, see above)
        read: Read = namespace["make"](*self._constants)
        return read

    def line(self, text: str) -> None:
        """Add a statement, after everything it may depend on."""
        self._flush()
        self._lines.append(text)

    def _align(self, size: int) -> None:
        if size > 1:
            if size & (size - 1):
                raise DecodeError(f"alignment on {size} bytes")
            self.line(f"at = (at + {size - 1}) & {-size}")

    def _fixed(self, order: str, code: str, size: int) -> str:
        name = self.variable()
        self._run.append((order, code, size, name))
        return name

    def _flush(self) -> None:
        """Write the reading of all that waits for it: a call per byte order."""
        run, self._run = self._run, []
        at = 0
        while run:
            # A byte has no order: it goes with either.
            order = next((order for order, *_ in run if order), "<")
            together = next(
                (number for number, item in enumerate(run) if item[0] not in ("", order)), len(run)
            )
            unpacker = struct.Struct(order + "".join(code for _, code, _, _ in run[:together]))
            names = "".join(f"{name}, " for *_, name in run[:together])
            unpack = self.constant(unpacker.unpack_from)
            self._lines.append(f"{names}= {unpack}(data, at{f' + {at}' if at else ''})")
            at += unpacker.size
            del run[:together]
        if at:
            self._lines.append(f"at += {at}")

    def _struct(self, type_: Struct) -> P:
        self._align(_alignment(type_))
        self._scopes.append({})
        names, members = [], []
        for field in declared(type_.fields):
            names.append(field.name)
            members.append(self._field(field))
        self._scopes.pop()
        return self.struct(names, members)

    def _field(self, field: Field) -> P:
        type_ = field.type
        match type_:
            case Integer():
                value = self._integer(type_)
                self._scopes[-1][field.name] = value, type_
                return self.integer(type_, value)
            case Enumeration():
                value = self._integer(type_.container)
                self._scopes[-1][field.name] = value, type_
                return self.enumeration(type_.container, self._entries(type_), value)
            case FloatingPoint():
                self._align(_alignment(type_))
                code = _REALS.get((type_.exp_dig, type_.mant_dig))
                if code is None:
                    raise DecodeError(
                        f"field {field.name}: floating point number with a mantissa of "
                        f"{type_.mant_dig} bits"
                    )
                order = ">" if type_.reverse_byte_order else "<"
                return self.real(self._fixed(order, code, struct.calcsize(code)))
            case String():
                value = self.variable()
                self.line(f"{value} = data.index(0, at)")
                self.line(f"{value}, at = data[at:{value}], {value} + 1")
                return self.text(value)
            case Array():
                return self._array(type_)
            case Sequence():
                return self._sequence(type_)
            case Struct():
                return self._struct(type_)
        return self._variant(type_)

    def _integer(self, type_: Integer) -> str:
        self._align(_alignment(type_))
        code = _CODES.get(type_.size)
        if code is None:
            value = self.variable()
            self.line(f"{value}, = {self._odd(type_, 1)}(data, at)")
            self.line(f"at += {type_.size // 8}")
            return value
        order = "" if type_.size == 8 else ">" if type_.reverse_byte_order else "<"
        return self._fixed(order, code if type_.signed else code.upper(), type_.size // 8)

    def _odd(self, type_: Integer, count: int | None) -> str:
        if type_.size % 8 or not 0 < type_.size <= 64 or type_.alignment < 8:
            raise DecodeError(f"integer of {type_.size} bits, aligned on {type_.alignment}")
        return self.constant(_odd_integers(type_, count))

    def _entries(self, type_: Enumeration) -> tuple[EnumEntry, ...]:
        return self._enums.get(type_.enum_id, ())

    def _array(self, type_: Array) -> P:
        element, length = type_.element, type_.length
        self._align(_alignment(element))
        if is_text(type_):
            return self.text(self._fixed("", f"{length}s", length))
        value = self.variable()
        if element.size in _CODES:
            order = ">" if element.reverse_byte_order else "<"
            unpacker = struct.Struct(f"{order}{length}{self.element_code(element)}")
            self.line(f"{value} = {self.constant(unpacker.unpack_from)}(data, at)")
        else:
            self.line(f"{value} = {self._odd(element, length)}(data, at)")
        self.line(f"at += {length * element.size // 8}")
        return self.integers(element, value, str(length))

    def _sequence(self, type_: Sequence) -> P:
        count, length = self._find(type_.length_name)
        if not isinstance(length, Integer) or length.signed:
            raise DecodeError(f"length {type_.length_name} is no unsigned integer")
        element = type_.element
        self._align(_alignment(element))
        value = self.variable()
        if is_text(type_):
            # A slice would be short without an error.
            self.line(f"if {count}: data[at + {count} - 1]")
            self.line(f"{value} = data[at : at + {count}]")
        elif element.size in _CODES:
            order = ">" if element.reverse_byte_order else "<"
            unpackers = self.constant(_Unpackers(order, self.element_code(element)))
            self.line(f"{value} = {unpackers}[{count}](data, at)")
        else:
            self.line(f"{value} = {self._odd(element, None)}(data, at, {count})")
        self.line(f"at += {count} * {element.size // 8}")
        return self.text(value) if is_text(type_) else self.integers(element, value, count)

    def _variant(self, type_: Variant) -> P:
        tag, tag_type = self._find(type_.tag_name)
        if not isinstance(tag_type, Enumeration):
            raise DecodeError(f"tag {type_.tag_name} is no enumeration")
        choices: dict[str, Read] = {}
        for choice in type_.choices:
            walk = type(self)(self._enums)
            walk._scopes.append({})
            choices[choice.name] = walk.function(walk._field(choice))
        value = self.variable()
        select = _Choices(choices, self._entries(tag_type), tag_type.container, type_.tag_name)
        self.line(f"{value}, at = {self.constant(select)}[{tag}](data, at)")
        return self.variant(value)

    def _find(self, name: str) -> tuple[str, Integer | Enumeration]:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        raise DecodeError(f"no field {name} in front of what refers to it")


class _Choices(dict[int, Read]):
    """By value of a variant's tag: how to read the choice."""

    def __init__(
        self,
        choices: Mapping[str, Read],
        entries: tuple[EnumEntry, ...],
        type_: Integer,
        name: str,
    ) -> None:
        self._choices = choices
        self._entries = entries
        self._type = type_
        self._name = name

    def __missing__(self, value: int) -> Read:
        for label in labels(self._entries, self._type, value):
            # Names of choices have lost a "_" on the way, labels have not.
            for name in (label.removeprefix("_"), label):
                if name in self._choices:
                    if len(self) < _MANY:
                        self[value] = self._choices[name]
                    return self._choices[name]
        raise DecodeError(f"tag {self._name} is {value}, which selects nothing")
