# SPDX-License-Identifier: MIT
"""Reads a trace's metadata: TSDL text, or packets of it, to a `TraceClass`.

Understood is what LTTng UST 2.13 and `ustconsumer.ctf.metadata` write, in whatever spacing
and order of blocks. Anything else is an error with its line and column, not a guess.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from uuid import UUID

from ustconsumer.ctf.classes import Clock, EventClass, StreamClass, TraceClass
from ustconsumer.ctf.packets import metadata_text
from ustconsumer.ctf.tokens import INTEGER, MARK, STRING, WORD, Place, Token, tokens
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

__all__ = ["Declarations", "trace_class"]

#: Types inside types: the tracer's event headers have three levels.
MAX_NESTING = 16
#: Elements of a fixed array.
MAX_LENGTH = 1 << 28

#: What stands on the right of ``=`` in a block.
_Value = int | str


def trace_class(raw: bytes) -> TraceClass:
    """Return what a metadata file declares.

    Parameters
    ----------
    raw : bytes
        Its whole content: packets, or text.

    Raises
    ------
    DecodeError
        Broken packets, text that is no TSDL, something not understood, a trace without
        uuid or clock.
    """
    declarations = Declarations()
    declarations.add(metadata_text(raw))
    return declarations.finish()


class Declarations:
    """Metadata text that comes in pieces.

    Attributes
    ----------
    trace : TraceClass
        Of what was declared so far, the same object all the time.
    """

    def __init__(self) -> None:
        self.trace = TraceClass(b"", {}, _NO_CLOCK)
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._rest = ""
        self._place = Place()
        self._aliases: dict[str, FieldType] = {}
        self._enum_ids: dict[tuple[EnumEntry, ...], int] = {}

    def add(self, text: bytes) -> None:
        """Take whatever is declared as a whole; the beginning of a declaration waits.

        Raises
        ------
        DecodeError
            With line and column.
        """
        self._rest += self._decoder.decode(text)
        words = tokens(self._rest, self._place)
        depth = start = 0
        for number, token in enumerate(words):
            if token.kind != MARK:
                continue
            depth += {"{": 1, "}": -1}.get(token.text, 0)
            if token.text == ";" and depth <= 0:
                statement = words[start : number + 1]
                _Statement(self, statement, self._rest, self._place).read()
                start = number + 1
                depth = 0
        if start:
            done = words[start - 1].at + 1
            self._place = self._place.after(self._rest[:done])
            self._rest = self._rest[done:]

    @property
    def complete(self) -> bool:
        """Whether the text so far ends with a whole declaration."""
        return not self._rest or self._rest.isspace()

    def finish(self) -> TraceClass:
        """Return the trace, of which nothing more is to come.

        Raises
        ------
        DecodeError
            The text ends in the middle of a declaration, or misses a necessary one.
        """
        # A comment or string that is cut off swallows the semicolon.
        if [token.text for token in tokens(f"{self._rest}\n;", self._place)] != [";"]:
            blank = self._rest[: len(self._rest) - len(self._rest.lstrip())]
            raise self._place.after(blank).error("the declaration that follows is cut off")
        if not self.trace.uuid:
            raise DecodeError("metadata declares no trace with a uuid")
        if self.trace.clock is _NO_CLOCK:
            raise DecodeError("metadata declares no clock")
        return self.trace

    def enumeration(self, entries: tuple[EnumEntry, ...]) -> int:
        """Return the id of an enumeration with these entries."""
        number = self._enum_ids.setdefault(entries, len(self._enum_ids))
        self.trace.enums[number] = entries
        return number

    def alias(self, name: str) -> FieldType | None:
        """Return the type declared under a name, ``struct NAME`` for a structure."""
        return self._aliases.get(name)

    def add_alias(self, name: str, type_: FieldType) -> bool:
        """Remember a type; False if there is one of this name."""
        return self._aliases.setdefault(name, type_) is type_


_NO_CLOCK = Clock("", 1_000_000_000, 0)


class _Statement:
    """One declaration, from its first word to its semicolon."""

    def __init__(
        self, declarations: Declarations, words: list[Token], text: str, place: Place
    ) -> None:
        self._declarations = declarations
        # Nothing takes a token of this kind, so nothing goes past it.
        self._words = [*words, Token("end", "the end of the declaration", words[-1].at)]
        self._text = text
        self._place = place
        self._at = 0
        self._nesting = 0

    # -- words --

    def _error(self, reason: str, token: Token | None = None) -> DecodeError:
        token = token or self._next
        return self._place.after(self._text[: token.at]).error(reason)

    @property
    def _next(self) -> Token:
        return self._words[self._at]

    def _take(self, kind: str) -> Token:
        token = self._next
        if token.kind != kind:
            raise self._error(f"{token.text!r} where a {kind} belongs")
        self._at += 1
        return token

    def _skip(self, mark: str) -> bool:
        """Whether a mark comes next; if so, go past it."""
        token = self._next
        if token.kind != MARK or token.text != mark:
            return False
        self._at += 1
        return True

    def _expect(self, mark: str) -> None:
        if not self._skip(mark):
            raise self._error(f"{self._next.text!r} where {mark!r} belongs")

    def _integer(self) -> int:
        negative = self._skip("-")
        if not negative:
            self._skip("+")
        token = self._take(INTEGER)
        try:
            value = token.integer()
        except ValueError:
            raise self._error(f"{token.text} is no number", token) from None
        if value >= 1 << 64:
            raise self._error(f"{token.text} has more than 64 bits", token)
        return -value if negative else value

    def _dotted(self) -> str:
        parts = [self._take(WORD).text]
        while self._skip("."):
            parts.append(self._take(WORD).text)
        return ".".join(parts)

    # -- blocks --

    def read(self) -> None:
        """Read the statement into the trace."""
        if self._skip(";"):
            return
        first = self._take(WORD)
        if first.text == "typealias":
            self._typealias()
        elif first.text == "struct":
            self._at -= 1
            self._type()
        else:
            read = _BLOCKS.get(first.text)
            if read is None:
                raise self._error(f"a declaration of {first.text!r} is not understood", first)
            read(self, first)
        self._expect(";")
        assert self._next.kind == "end"

    def _typealias(self) -> None:
        type_ = self._type()
        self._expect(":=")
        first = self._next
        name = self._names()
        if not self._declarations.add_alias(name, type_):
            raise self._error(f"type {name} is declared a second time", first)

    def _names(self) -> str:
        """Return the words that come next: the name of an alias may be several."""
        names = [self._take(WORD).text]
        while self._next.kind == WORD:
            names.append(self._take(WORD).text)
        return " ".join(names)

    def _block(self) -> tuple[dict[str, tuple[_Value, Token]], dict[str, tuple[FieldType, Token]]]:
        """Return a block's ``key = value;`` and its ``key := type;``."""
        values: dict[str, tuple[_Value, Token]] = {}
        types: dict[str, tuple[FieldType, Token]] = {}
        self._expect("{")
        while not self._skip("}"):
            token = self._next
            key = self._dotted()
            if key in values or key in types:
                raise self._error(f"{key} is declared a second time", token)
            if self._skip(":="):
                types[key] = (self._type(), token)
            else:
                self._expect("=")
                values[key] = (self._value(), token)
            self._expect(";")
        return values, types

    def _value(self) -> _Value:
        token = self._next
        if token.kind == STRING:
            self._at += 1
            return token.string()
        return self._dotted() if token.kind == WORD else self._integer()

    def _trace(self, first: Token) -> None:
        values, types = self._block()
        trace = self._declarations.trace
        if trace.uuid:
            raise self._error("a second trace", first)
        for key, expected in (("major", 1), ("minor", 8)):
            if values.get(key, (None,))[0] != expected:
                raise self._error(f"a trace of another version of CTF than 1.8: {key}", first)
        order = values.get("byte_order", ("undeclared",))[0]
        if order != "le":
            raise self._error(f"byte order {order}: only little-endian traces are read", first)
        header = types.get("packet.header", (None, first))
        if header[0] != _PACKET_HEADER:
            raise self._error("packet.header is not LTTng's", header[1])
        try:
            trace.uuid = UUID(str(values.get("uuid", ("",))[0])).bytes
        except ValueError:
            raise self._error("no uuid", first) from None

    def _env(self, first: Token) -> None:
        values, _ = self._block()
        self._declarations.trace.env.update({key: value for key, (value, _) in values.items()})

    def _clock(self, first: Token) -> None:
        values, _ = self._block()
        trace = self._declarations.trace
        if trace.clock is not _NO_CLOCK:
            raise self._error("a second clock", first)
        numbers = [
            self._number(values, key, default, first)
            for key, default in (("freq", 1_000_000_000), ("offset", 0), ("offset_s", 0))
        ]
        if numbers[0] <= 0:
            raise self._error("freq is not positive", first)
        trace.clock = Clock(str(values.get("name", ("",))[0]), *numbers)

    def _number(
        self, values: dict[str, tuple[_Value, Token]], key: str, default: int | None, first: Token
    ) -> int:
        value, token = values.get(key, (default, first))
        if not isinstance(value, int):
            raise self._error(f"{key} is no number" if key in values else f"no {key}", token)
        return value

    def _stream(self, first: Token) -> None:
        values, types = self._block()
        trace = self._declarations.trace
        number = self._number(values, "id", None, first)
        if number in trace.streams:
            raise self._error(f"stream {number} is declared a second time", first)
        context, token = types.get("packet.context", (None, first))
        if context != _PACKET_CONTEXT:
            raise self._error("packet.context is not that of LTTng for 64-bit programs", token)
        header, token = types.get("event.header", (None, first))
        compact = header == self._event_header(5, 27)
        if not compact and header != self._event_header(16, 32):
            raise self._error("event.header is neither of LTTng's two, compact and large", token)
        trace.streams[number] = StreamClass(number, compact, self._fields(types, "event.context"))

    def _event_header(self, bits: int, clock_bits: int) -> Struct:
        """Return LTTng's event header with ids of so many bits."""
        last = (1 << bits) - 2
        entries = (EnumEntry("compact", 0, last), EnumEntry("extended", last + 1, last + 1))
        timestamp = _unsigned(clock_bits)
        choices = (
            Field("compact", Struct((Field("timestamp", timestamp),))),
            Field("extended", Struct((Field("id", _U32), Field("timestamp", _U64)))),
        )
        tag = Enumeration("", _unsigned(bits), self._declarations.enumeration(entries))
        return Struct((Field("id", tag), Field("v", Variant("id", choices))), 1)

    def _fields(self, types: dict[str, tuple[FieldType, Token]], key: str) -> tuple[Field, ...]:
        type_, token = types.get(key, (Struct(), self._next))
        if not isinstance(type_, Struct):
            raise self._error(f"{key} is no structure", token)
        return type_.fields

    def _event(self, first: Token) -> None:
        values, types = self._block()
        if "context" in types:
            raise self._error("contexts of a single event are not understood", types["context"][1])
        event = EventClass(
            self._number(values, "id", None, first),
            self._number(values, "stream_id", None, first),
            str(values.get("name", ("",))[0]),
            self._number(values, "loglevel", None, first) if "loglevel" in values else None,
            str(values.get("model.emf.uri", ("",))[0]),
            self._fields(types, "fields"),
        )
        events = self._declarations.trace.events.setdefault(event.stream_id, {})
        if event.id in events:
            raise self._error(f"event {event.id} of stream {event.stream_id}: a second one", first)
        events[event.id] = event

    # -- types --

    def _type(self) -> FieldType:
        token = self._take(WORD)
        read = _TYPES.get(token.text)
        if read is None:
            return self._named(token)
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self._error(f"more than {MAX_NESTING} types inside each other", token)
        type_ = read(self, token)
        self._nesting -= 1
        return type_

    def _named(self, first: Token) -> FieldType:
        # In front of a member's name: `unsigned long events_discarded`.
        name = first.text
        while True:
            type_ = self._declarations.alias(name)
            if type_ is not None:
                return type_
            if self._next.kind != WORD:
                raise self._error(f"type {name} is not declared", first)
            name += f" {self._take(WORD).text}"

    def _attributes(self, known: tuple[str, ...]) -> dict[str, tuple[_Value, Token]]:
        if self._next.text != "{":
            return {}
        values, types = self._block()
        for key, (_, token) in {**values, **types}.items():
            if key not in known or key in types:
                raise self._error(f"attribute {key} of a type is not understood", token)
        return values

    def _integer_type(self, first: Token) -> Integer:
        values = self._attributes(
            ("size", "align", "signed", "encoding", "base", "byte_order", "map")
        )
        size = self._number(values, "size", None, first)
        if not 1 <= size <= 64:
            raise self._error(f"integer of {size} bits", first)
        return _integer(
            size,
            self._one_of(values, "signed", _SIGNED, False, first),
            self._one_of(values, "base", _BASES, 10, first),
            self._one_of(values, "encoding", _ENCODINGS, "none", first),
            self._alignment(values, 1 if size % 8 else 8, first),
            self._one_of(values, "byte_order", _BYTE_ORDERS, False, first),
        )

    def _one_of(
        self,
        values: dict[str, tuple[_Value, Token]],
        key: str,
        meanings: dict[_Value, Any],
        default: object,
        first: Token,
    ) -> Any:
        if key not in values:
            return default
        value, token = values[key]
        if value not in meanings:
            raise self._error(f"{key} {value!r} is not understood", token)
        return meanings[value]

    def _alignment(
        self, values: dict[str, tuple[_Value, Token]], default: int, first: Token
    ) -> int:
        return self._power(self._number(values, "align", default, first), first)

    def _power(self, bits: int, token: Token) -> int:
        if bits <= 0 or bits & (bits - 1) or bits > 1 << 16:
            raise self._error(f"alignment on {bits} bits", token)
        return bits

    def _floating_point(self, first: Token) -> FloatingPoint:
        values = self._attributes(("exp_dig", "mant_dig", "align", "byte_order"))
        return FloatingPoint(
            self._number(values, "exp_dig", None, first),
            self._number(values, "mant_dig", None, first),
            self._alignment(values, 8, first),
            self._one_of(values, "byte_order", _BYTE_ORDERS, False, first),
        )

    def _string(self, first: Token) -> String:
        values = self._attributes(("encoding",))
        return String(self._one_of(values, "encoding", _ENCODINGS, "UTF8", first))

    def _struct(self, first: Token) -> Struct:
        name = f"struct {self._take(WORD).text}" if self._next.kind == WORD else ""
        if name and self._next.text != "{":
            known = self._declarations.alias(name)
            if not isinstance(known, Struct):
                raise self._error(f"{name} is not declared", first)
            return known
        members = self._members()
        alignment = 0
        if self._next.kind == WORD and self._next.text == "align":
            self._at += 1
            self._expect("(")
            token = self._next
            alignment = self._power(self._integer(), token) // 8
            self._expect(")")
        type_ = Struct(members, alignment)
        if name and not self._declarations.add_alias(name, type_):
            raise self._error(f"{name} is declared a second time", first)
        return type_

    def _variant(self, first: Token) -> Variant:
        self._expect("<")
        tag = _stripped(self._dotted())
        self._expect(">")
        return Variant(tag, self._members())

    def _members(self) -> tuple[Field, ...]:
        members: list[Field] = []
        names = set()
        self._expect("{")
        while not self._skip("}"):
            type_ = self._type()
            token = self._take(WORD)
            field = Field(_stripped(token.text), self._declared(type_, token))
            if field.name in names:
                raise self._error(f"a second member {token.text}", token)
            names.add(field.name)
            self._expect(";")
            padding = members[-1] if members else None
            if padding is not None and padding.name == f"{field.name}_padding":
                field = _padded(members, padding.type, field)
            members.append(field)
        return tuple(members)

    def _declared(self, element: FieldType, name: Token) -> FieldType:
        """Return the type of a member: that in front of its name, or an array of it."""
        if not self._skip("["):
            return element
        if not isinstance(element, Integer):
            raise self._error("an array of something else than integers", name)
        type_: FieldType
        if self._next.kind == WORD:
            type_ = Sequence(element, _stripped(self._dotted()))
        else:
            length = self._integer()
            if not 0 <= length <= MAX_LENGTH:
                raise self._error(f"an array of {length} elements", name)
            type_ = Array(element, length)
        self._expect("]")
        if self._next.text == "[":
            raise self._error("an array of arrays", name)
        return type_

    def _enum(self, first: Token) -> Enumeration:
        self._expect(":")
        token = self._next
        container = self._type()
        if not isinstance(container, Integer):
            raise self._error("an enumeration of something else than integers", token)
        entries: list[EnumEntry] = []
        self._expect("{")
        while not self._skip("}"):
            entries.append(self._entry(entries[-1].end + 1 if entries else 0))
            if not self._skip(",") and self._next.text != "}":
                raise self._error(f"{self._next.text!r} where ',' or '}}' belongs")
        return Enumeration("", container, self._declarations.enumeration(tuple(entries)))

    def _entry(self, automatic: int) -> EnumEntry:
        token = self._next
        label = token.string() if token.kind == STRING else self._take(WORD).text
        if token.kind == STRING:
            self._at += 1
        if not self._skip("="):
            return EnumEntry(label, automatic, automatic)
        start = self._integer()
        end = self._integer() if self._skip("...") else start
        return EnumEntry(label, start, end)


@lru_cache(maxsize=256)
def _integer(*attributes: Any) -> Integer:
    """Return the same object for the same attributes: most members are one of a few types."""
    return Integer(*attributes)


def _unsigned(bits: int) -> Integer:
    return Integer(bits, signed=False, alignment=1 if bits % 8 else 8)


def _stripped(name: str) -> str:
    """Return the name without the ``_`` that keeps it from being a keyword."""
    return name.removeprefix("_")


def _padded(members: list[Field], padding: FieldType, field: Field) -> Field:
    """Make the alignment declared in front of a field one of its type."""
    match padding, field.type:
        case Struct(fields=(), alignment=alignment), Array() | Sequence() | Variant():
            members.pop()
            type_ = field.type
            match type_:
                case Array():
                    return Field(field.name, Array(type_.element, type_.length, alignment))
                case Sequence():
                    return Field(field.name, Sequence(type_.element, type_.length_name, alignment))
                case Variant():
                    return Field(field.name, Variant(type_.tag_name, type_.choices, alignment))
    return field


_U8, _U32, _U64 = _unsigned(8), _unsigned(32), _unsigned(64)

#: See `ustconsumer.abi.packet.DATA_PACKET`.
_PACKET_HEADER = Struct(
    (
        Field("magic", _U32),
        Field("uuid", Array(_U8, 16)),
        Field("stream_id", _U32),
        Field("stream_instance_id", _U64),
    )
)
_PACKET_CONTEXT = Struct(
    (
        Field("timestamp_begin", _U64),
        Field("timestamp_end", _U64),
        Field("content_size", _U64),
        Field("packet_size", _U64),
        Field("packet_seq_num", _U64),
        Field("events_discarded", _U64),
        Field("cpu_id", _U32),
    )
)

_SIGNED: dict[_Value, bool] = {
    0: False,
    1: True,
    **dict.fromkeys(("false", "FALSE"), False),
    **dict.fromkeys(("true", "TRUE"), True),
}
_BASES: dict[_Value, int] = {
    **dict.fromkeys((2, "binary", "b"), 2),
    **dict.fromkeys((8, "octal", "oct", "o"), 8),
    **dict.fromkeys((10, "decimal", "dec", "d", "i", "u"), 10),
    **dict.fromkeys((16, "hexadecimal", "hex", "x", "X", "p"), 16),
}
_ENCODINGS: dict[_Value, str] = {
    "none": "none",
    **dict.fromkeys(("UTF8", "utf8", "UTF-8", "utf-8"), "UTF8"),
    **dict.fromkeys(("ASCII", "ascii"), "ASCII"),
}
#: Whether it is the other one than the trace's.
_BYTE_ORDERS: dict[_Value, bool] = {"native": False, "le": False, "be": True, "network": True}

_BLOCKS: dict[str, Callable[[_Statement, Token], None]] = {
    "trace": _Statement._trace,
    "env": _Statement._env,
    "clock": _Statement._clock,
    "stream": _Statement._stream,
    "event": _Statement._event,
}
_TYPES: dict[str, Callable[[_Statement, Token], FieldType]] = {
    "integer": _Statement._integer_type,
    "floating_point": _Statement._floating_point,
    "string": _Statement._string,
    "struct": _Statement._struct,
    "variant": _Statement._variant,
    "enum": _Statement._enum,
}
