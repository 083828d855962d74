# SPDX-License-Identifier: MIT
"""What a program declares its tracepoints with."""

from __future__ import annotations

from ustconsumer.tracer.declared import Declared, check_provider, declare
from ustconsumer.tracer.levels import Level
from ustconsumer.tracer.process import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeVar, overload

    from ustconsumer._native.emit import Tracepoint
    from ustconsumer.tracer.counter import Counter
    from ustconsumer.tracer.record import RecordTracepoint
    from ustconsumer.tracer.span import Span

    Record = TypeVar("Record")

__all__ = ["Provider"]


class Provider:
    """A set of tracepoints under one name; the first one makes the process traceable.

    Several of one name are fine: a tracepoint is what there is one of. Whoever declares
    one again, and says the same, gets the one there is.

    Parameters
    ----------
    name : str
        Letters, digits and ``_.-`` of ASCII.

    Raises
    ------
    ValueError
        No provider can be called that.
    """

    __slots__ = ("__weakref__", "_own", "name")

    def __init__(self, name: str) -> None:
        check_provider(name)
        self.name = name
        self._own: list[Declared] = []
        process.start()

    if TYPE_CHECKING:

        @overload
        def tracepoint(
            self,
            name: str,
            /,
            *,
            level: int | str = Level.DEBUG_LINE,
            model_uri: str = "",
            truncate: bool = False,
            fields: Mapping[str, object] | None = None,
            **more: object,
        ) -> Tracepoint: ...

        @overload
        def tracepoint(
            self,
            name: str,
            record: type[Record],
            /,
            *,
            level: int | str = Level.DEBUG_LINE,
            model_uri: str = "",
            truncate: bool = False,
        ) -> RecordTracepoint[Record]: ...

        @overload
        def tracepoint(
            self,
            record: type[Record],
            /,
            *,
            level: int | str = Level.DEBUG_LINE,
            model_uri: str = "",
            truncate: bool = False,
        ) -> RecordTracepoint[Record]: ...

    def tracepoint(
        self,
        name: str | type,
        record: type | None = None,
        /,
        *,
        level: int | str = Level.DEBUG_LINE,
        model_uri: str = "",
        truncate: bool = False,
        fields: Mapping[str, object] | None = None,
        **more: object,
    ) -> object:
        """Declare a tracepoint; calling what is returned emits an event.

        Parameters
        ----------
        name : str
            Of the event; may be left out before ``record``, whose name it then is.
        record : type, optional
            A dataclass, a TypedDict or a NamedTuple: its annotations are the fields, and
            its instances are what is emitted.
        level : int or str
            How severe: `Level`, or a name.
        model_uri : str
            Where the meaning of the event is described.
        truncate : bool
            Cut values that do not fit instead of raising.
        fields : mapping, optional
            Name to type, for names that are parameters of this method; they come first.
        **more : type of a field
            As ``number=u32``; see `ustconsumer.tracer.types`.

        Returns
        -------
        Tracepoint or RecordTracepoint
            ``enabled`` tells whether anybody records it; the first is called with the
            values, by position or by name, the second with a record.

        Raises
        ------
        ValueError
            A name that cannot be, or a tracepoint of this name that is another.
        TypeError
            A type that no field has.
        """
        if not isinstance(name, str):
            from ustconsumer.tracer.record import event_name

            if record is not None:
                raise TypeError(f"name of event {name!r}: a str")
            record = name
            name = event_name(record)
        if record is not None:
            from ustconsumer.tracer.record import RecordTracepoint, fields_of

            if fields or more:
                raise TypeError(f"{self.name}:{name}: fields come from {record!r}, not from both")
            fields = fields_of(f"{self.name}:{name}", record)
            native = self._declare(name, fields, level, model_uri, truncate)
            return RecordTracepoint(native, record)
        return self._declare(
            name, _merged(f"{self.name}:{name}", fields, more), level, model_uri, truncate
        )

    def span(
        self,
        name: str,
        /,
        *,
        level: int | str = Level.DEBUG_LINE,
        model_uri: str = "",
        truncate: bool = False,
        fields: Mapping[str, object] | None = None,
        **more: object,
    ) -> Span:
        """Declare something that takes time: events NAME_begin and NAME_end.

        Parameters are those of `tracepoint`; the fields are of the first event. See `Span`.
        """
        from ustconsumer.tracer.span import END_FIELDS, RESERVED, Span

        merged = _merged(f"{self.name}:{name}", fields, more)
        for field in RESERVED:
            if field in merged:
                raise ValueError(f"{self.name}:{name}: field {field!r}: a span has one of its own")
        begin_fields = {**RESERVED, **merged}
        begin = self._declare(f"{name}_begin", begin_fields, level, model_uri, truncate)
        end = self._declare(f"{name}_end", END_FIELDS, level, model_uri, True)
        return Span(f"{self.name}:{name}", begin, end, tuple(merged))

    def counter(
        self, name: str, /, *, level: int | str = Level.DEBUG_LINE, model_uri: str = ""
    ) -> Counter:
        """Declare a number that goes up and down: an event NAME each time. See `Counter`."""
        from ustconsumer.tracer.counter import FIELDS, Counter

        return Counter(self._declare(name, FIELDS, level, model_uri, False))

    def close(self) -> None:
        """Take back the tracepoints that this provider declared: nobody records them any more.

        They may be called all the same, and declared again.
        """
        own, self._own = self._own, []
        for declared in own:
            process.remove(declared)

    def _declare(
        self,
        event: str,
        fields: Mapping[str, object],
        level: int | str,
        model_uri: str,
        truncate: bool,
    ) -> Tracepoint:
        declared = declare(self, event, fields, level, model_uri, truncate)
        with process.lock:
            known = process.declared.get(declared.name)
            if known is None:
                process.add(declared)
                self._own.append(declared)
                return declared.native
        if not known.same(declared):
            raise ValueError(
                f"tracepoint {declared.name!r} is declared already, with other fields or "
                f"attributes: {known!r}"
            )
        return known.native

    def __repr__(self) -> str:
        return f"Provider({self.name!r})"


def _merged(
    name: str, fields: Mapping[str, object] | None, more: Mapping[str, object]
) -> dict[str, object]:
    merged = dict(fields or {})
    for field, kind in more.items():
        if field in merged:
            raise ValueError(f"{name}: field {field!r} is given twice")
        merged[field] = kind
    return merged
