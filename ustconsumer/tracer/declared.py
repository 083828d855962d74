# SPDX-License-Identifier: MIT
"""A tracepoint as its program declared it: names checked, types of fields known."""

from __future__ import annotations

from ustconsumer._native.emit import Tracepoint
from ustconsumer.tracer.levels import level_of
from ustconsumer.tracer.types import Enumeration, FieldType, Sequence, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ustconsumer.tracer.provider import Provider

__all__ = ["Declared", "check_provider", "declare"]

#: Bytes of any name in the protocol, its NUL among them.
_SYMBOL = 256
#: What TSDL and patterns of names leave alone; the same for providers and for events.
_PUNCTUATION = "_.-"


class Declared:
    """A tracepoint; equal declarations are one.

    Attributes
    ----------
    name : str
        ``provider:event``.
    loglevel : int
    model_emf_uri : str
        Empty for none.
    fields : tuple of (str, FieldType)
    signature : str
        Tells tracepoints of one name apart.
    native : Tracepoint
        What the program calls.
    provider : Provider
    """

    __slots__ = (
        "fields",
        "loglevel",
        "model_emf_uri",
        "name",
        "native",
        "provider",
        "signature",
    )

    def __init__(
        self,
        provider: Provider,
        name: str,
        loglevel: int,
        model_emf_uri: str,
        fields: tuple[tuple[str, FieldType], ...],
        truncate: bool,
    ) -> None:
        self.provider = provider
        self.name = name
        self.loglevel = loglevel
        self.model_emf_uri = model_emf_uri
        self.fields = fields
        self.signature = ", ".join(f"{kind!r}, {field}" for field, kind in fields)
        self.native = Tracepoint(
            name,
            tuple(
                (field, kind.code, kind.values if isinstance(kind, Enumeration) else None)
                for field, kind in fields
            ),
            truncate,
        )

    def same(self, other: Declared) -> bool:
        """Return whether another declaration says the same."""
        return self._key() == other._key()

    def _key(self) -> tuple[object, ...]:
        return (
            self.name,
            self.loglevel,
            self.model_emf_uri,
            self.native.truncate,
            tuple((name, _key(kind)) for name, kind in self.fields),
        )

    def __repr__(self) -> str:
        return f"<{self.name}: {self.signature or 'no fields'}>"


def _key(kind: FieldType) -> tuple[object, ...]:
    """What makes types equal; they have no ``==`` of their own."""
    if isinstance(kind, Sequence):
        return (*_key(kind.element), kind.code)
    if isinstance(kind, Enumeration):
        # Members of a class that was defined anew are others: they are not in the old mapping.
        return (kind.code, kind.name, kind.entries, tuple(kind.values.items()))
    return (kind.code, getattr(kind, "base", 0))


def declare(
    provider: Provider,
    event: str,
    fields: Mapping[str, object],
    level: int | str,
    model_uri: str,
    truncate: bool,
) -> Declared:
    """Return a checked declaration; nobody knows of it yet.

    Raises
    ------
    ValueError, TypeError
        A name or a type that no trace can have.
    """
    _check_name("event", event)
    name = f"{provider.name}:{event}"
    if len(name) >= _SYMBOL:
        raise ValueError(f"tracepoint {name!r} has {len(name)} bytes: use fewer than {_SYMBOL}")
    checked = []
    taken: set[str] = set()
    for field, written in fields.items():
        try:
            kind = resolve(written)
            _check_field(field, kind, provider.name, taken)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: field {field!r}: {error}") from None
        checked.append((field, kind))
    try:
        loglevel = level_of(level)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    _check_uri(name, model_uri)
    return Declared(provider, name, loglevel, model_uri, tuple(checked), bool(truncate))


def check_provider(name: str) -> None:
    """Raise unless a provider can be called that."""
    _check_name("provider", name)
    # An event needs one character at least, and the colon.
    if len(name) > _SYMBOL - 3:
        raise ValueError(f"provider {name!r} has {len(name)} bytes: use at most {_SYMBOL - 3}")


def _check_name(what: str, name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name of {what} {name!r}: a str")
    if not name:
        raise ValueError(f"a name of {what} is empty")
    if not (name.isascii() and all(each.isalnum() or each in _PUNCTUATION for each in name)):
        raise ValueError(
            f"{what} {name!r}: use letters and digits of ASCII, and any of {_PUNCTUATION}"
        )


def _check_uri(name: str, uri: str) -> None:
    if not isinstance(uri, str):
        raise TypeError(f"{name}: model URI {uri!r}: a str")
    # It is between quotes in the trace's metadata.
    if not (uri.isascii() and uri.isprintable()) or any(each in ' "\\' for each in uri):
        raise ValueError(f"{name}: model URI {uri!r}: use the characters of URIs")


def _check_field(field: str, kind: FieldType, provider: str, taken: set[str]) -> None:
    if not isinstance(field, str) or not (field.isascii() and field.isidentifier()):
        raise ValueError("the name must be an identifier in ASCII")
    names = [field, f"_{field}_length"] if isinstance(kind, Sequence) else [field]
    for each in names:
        if each in taken:
            raise ValueError("a sequence's length has that name already")
        if len(each) >= _SYMBOL:
            raise ValueError(f"the name has {len(each)} bytes: use fewer than {_SYMBOL}")
        taken.add(each)
    if isinstance(kind, Enumeration):
        _check_enumeration(kind, provider)


def _check_enumeration(kind: Enumeration, provider: str) -> None:
    full = f"{provider}_{kind.name}"
    if not kind.name.isascii() or not kind.name.isidentifier() or len(full) >= _SYMBOL:
        raise ValueError(f"enumeration {kind.name!r}: an identifier in ASCII, fewer than 256 bytes")
    low = -(1 << kind.container.size - 1) if kind.container.signed else 0
    high = low + (1 << kind.container.size)
    for label, first, last in kind.entries:
        if not label.isprintable() or not 0 < len(label.encode()) < _SYMBOL:
            raise ValueError(
                f"label {label!r} of enumeration {kind.name!r}: 1 to 255 bytes of text"
            )
        if not low <= first <= last < high:
            raise ValueError(
                f"label {label!r} of enumeration {kind.name!r}: {first} to {last} do not fit "
                f"{kind.container!r}"
            )
