# SPDX-License-Identifier: MIT
"""Tracepoints whose events are objects: dataclasses, typed dictionaries, named tuples."""

from __future__ import annotations

import sys
from _collections_abc import Sequence
from _operator import attrgetter, itemgetter

from ustconsumer.tracer import types
from ustconsumer.tracer.types import FieldType, resolve, sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Generic, TypeVar

    from ustconsumer._native.emit import Tracepoint

    Record = TypeVar("Record", contravariant=True)
else:

    class Generic:
        """Stands for ``typing.Generic``, which a traced program need not import."""

        __slots__ = ()

        def __class_getitem__(cls, item: object) -> type:
            return cls

    Record = None

__all__ = ["RecordTracepoint", "event_name", "fields_of"]


class RecordTracepoint(Generic[Record]):
    """A tracepoint that is called with one object.

    Attributes
    ----------
    emit : Tracepoint
        The same with one value for each field: what is fastest.
    record : type
        What it was declared with.
    """

    __slots__ = ("_values", "emit", "record")

    def __init__(self, native: Tracepoint, record: type) -> None:
        self.emit = native
        self.record = record
        self._values = _values_of(native, record)

    @property
    def enabled(self) -> bool:
        """False: an event would be recorded by nobody."""
        return self.emit.enabled

    @property
    def name(self) -> str:
        """``provider:event``."""
        return self.emit.name

    def __call__(self, record: Record, /) -> None:
        """Emit an event with the values of ``record``."""
        emit = self.emit
        if emit.enabled:
            emit(*self._values(record))

    def __repr__(self) -> str:
        return f"<tracepoint {self.emit.name}({self.record.__name__})>"


def _values_of(native: Tracepoint, record: type) -> Callable[[Any], tuple[object, ...]]:
    """Return what gets the values of a record, in the order of the fields."""
    names = native.names
    # Of one name they return the value, not a tuple with it; of none they cannot be made.
    doubled = names * 2 if len(names) == 1 else names
    getter = itemgetter if _is_typed_dict(record) else attrgetter
    get = getter(*doubled) if names else None

    def values(given: Any) -> tuple[object, ...]:
        if get is None:
            return ()
        try:
            found: tuple[object, ...] = get(given)
        except (AttributeError, KeyError, TypeError):
            raise TypeError(_lacking(native, record, given)) from None
        return found[: len(names)]

    return values


def _lacking(native: Tracepoint, record: type, given: object) -> str:
    for name in native.names:
        if _is_typed_dict(record):
            if not isinstance(given, dict):
                break
            if name not in given:
                return f"{native.name}() lacks a value for {name}"
        elif not hasattr(given, name):
            break
    return f"{native.name}() takes a {record.__name__}, not {type(given).__name__}"


def event_name(record: type) -> str:
    """Return what an event is called after a class: ``OrderPlaced`` makes ``order_placed``."""
    if not isinstance(record, type):
        raise TypeError(f"{record!r} is neither an event's name nor a class")
    words: list[str] = []
    name = record.__name__
    for at, letter in enumerate(name):
        follows_small = at > 0 and not name[at - 1].isupper() and name[at - 1] != "_"
        before_small = 0 < at < len(name) - 1 and name[at - 1].isupper() and name[at + 1].islower()
        if letter.isupper() and (follows_small or before_small):
            words.append("_")
        words.append(letter.lower())
    return "".join(words)


def fields_of(event: str, record: type) -> dict[str, object]:
    """Return the fields that a class declares, in order, with their types.

    Raises
    ------
    TypeError
        The class has no annotations, or one that is no type of a field.
    """
    if not isinstance(record, type):
        raise TypeError(f"{event}: {record!r} is no class")
    optional = sorted(getattr(record, "__optional_keys__", ()))
    if optional:
        raise TypeError(
            f"{event}: {record.__name__} need not have {', '.join(optional)}: an event has all "
            "its fields"
        )
    fields: dict[str, object] = {}
    for name, annotation, home in _annotations(event, record):
        try:
            fields[name] = _resolve(_evaluated(annotation, home))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{event}: field {name!r} of {record.__name__}: {error}") from None
    return fields


def _annotations(event: str, record: type) -> Iterator[tuple[str, object, type]]:
    """Yield name, annotation, and the class whose module explains it."""
    if hasattr(record, "__dataclass_fields__"):
        # Without class variables and what only the constructor gets.
        names = [field.name for field in sys.modules["dataclasses"].fields(record)]
    elif _is_typed_dict(record) or (issubclass(record, tuple) and hasattr(record, "_fields")):
        names = list(record.__annotations__)
    else:
        raise TypeError(f"{event}: {record.__name__} is no dataclass, TypedDict or NamedTuple")
    for name in names:
        for home in record.__mro__:
            own = getattr(home, "__annotations__", {})
            if name in own:
                yield name, own[name], home
                break


def _is_typed_dict(record: type) -> bool:
    return issubclass(record, dict) and hasattr(record, "__total__")


def _evaluated(annotation: object, home: type) -> object:
    """Return what a string stands for: ``from __future__ import annotations`` makes them all."""
    # A TypedDict wraps its strings, and remembers where those it inherited come from.
    text = getattr(annotation, "__forward_arg__", annotation)
    if not isinstance(text, str):
        return annotation
    module = getattr(annotation, "__forward_module__", None) or home.__module__
    named = sys.modules.get(module) if isinstance(module, str) else module
    # Ours last: they may have been imported for a type checker only.
    known = {name: getattr(types, name) for name in types.__all__}
    known.update(getattr(named, "__dict__", {}))
    try:
        return eval(text, known)  # noqa: S307 (it is the program's own source)
    except Exception as error:
        raise TypeError(f"annotation {text!r}: {type(error).__name__}: {error}") from None


def _resolve(annotation: object) -> FieldType:
    """Return the field type of an annotation; those of sequences and wrappers too."""
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, FieldType):
            return extra
    origin = getattr(annotation, "__origin__", None)
    arguments: tuple[Any, ...] = getattr(annotation, "__args__", ())
    if origin in (list, Sequence) or (origin is tuple and arguments[1:] == (...,)):
        return sequence(_resolve(arguments[0]))
    # What these wrap is what counts.
    if hasattr(annotation, "__metadata__"):
        return _resolve(origin)
    if getattr(origin, "_name", "") == "NotRequired":
        raise TypeError("it need not be there, and an event has all its fields")
    if getattr(origin, "_name", "") in ("Required", "ReadOnly"):
        return _resolve(arguments[0])
    return resolve(annotation)
