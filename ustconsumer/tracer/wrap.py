# SPDX-License-Identifier: MIT
"""Functions as spans."""

from __future__ import annotations

import functools
from types import CodeType, FunctionType

from ustconsumer.tracer.span import Running, switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import Any, TypeAlias

    from ustconsumer.tracer.span import Span

    Values: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, ...]]

__all__ = ["wrap"]

# Flags of code; ``inspect`` has names for them and takes long to import.
_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200


def wrap(span: Span, function: Any) -> Any:
    """Return a function of the same kind, each run of which is a span.

    Raises
    ------
    TypeError
        The span has fields that are no parameters of the function.
    """
    if isinstance(function, classmethod | staticmethod):
        return type(function)(wrap(span, function.__func__))
    flags = _code(function).co_flags if _code(function) is not None else 0
    values = _values(span, function)
    for flag, wrapped in (
        (_COROUTINE, _coroutine),
        (_ASYNC_GENERATOR, _async_generator),
        (_GENERATOR, _generator),
    ):
        if flags & flag:
            return functools.wraps(function)(wrapped(span, function, values))
    return functools.wraps(function)(_function(span, function, values))


def _code(function: Any) -> Any:
    """Return the code that a call runs, None where it is not Python's."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if not hasattr(function, "__code__") and not isinstance(function, type):
        function = vars(type(function)).get("__call__")
    return getattr(function, "__code__", None)


def _function(span: Span, function: Any, values: Values) -> Any:
    def run(*args: Any, **named: Any) -> Any:
        if not (span.begin.enabled or span.end.enabled):
            return function(*args, **named)
        with Running(span, values(args, named), {}):
            return function(*args, **named)

    return run


def _coroutine(span: Span, function: Any, values: Values) -> Any:
    async def run(*args: Any, **named: Any) -> Any:
        if not (span.begin.enabled or span.end.enabled):
            return await function(*args, **named)
        with Running(span, values(args, named), {}):
            return await function(*args, **named)

    return run


def _generator(span: Span, function: Any, values: Values) -> Any:
    def run(*args: Any, **named: Any) -> Generator[Any, Any, Any]:
        if not (span.begin.enabled or span.end.enabled):
            return (yield from function(*args, **named))
        running = Running(span, values(args, named), {})
        running.begin()
        # Spans that the generator is in, this one or one inside it, are not those of the
        # code that takes its values: each time it goes on or stops they are exchanged.
        inside: Running | None = running
        generator = function(*args, **named)
        go_on, given = generator.send, None
        while True:
            outside = switch(inside)
            try:
                item = go_on(given)
            except StopIteration as stop:
                running.finish(None)
                return stop.value
            except BaseException as error:
                # It refers to this frame.
                given = None
                running.finish(error)
                raise
            finally:
                inside = switch(outside)
            try:
                go_on, given = generator.send, (yield item)
            except BaseException as error:
                go_on, given = generator.throw, error

    return run


def _async_generator(span: Span, function: Any, values: Values) -> Any:
    async def run(*args: Any, **named: Any) -> AsyncGenerator[Any, Any]:
        running = None
        if span.begin.enabled or span.end.enabled:
            running = Running(span, values(args, named), {})
            running.begin()
        inside = running
        generator = function(*args, **named)
        go_on, given = generator.asend, None
        while True:
            outside = switch(inside) if running else None
            try:
                item = await go_on(given)
            except StopAsyncIteration:
                if running:
                    running.finish(None)
                return
            except BaseException as error:
                # It refers to this frame.
                given = None
                if running:
                    running.finish(error)
                raise
            finally:
                if running:
                    inside = switch(outside)
            try:
                go_on, given = generator.asend, (yield item)
            except BaseException as error:
                go_on, given = generator.athrow, error

    return run


def _values(span: Span, function: Any) -> Values:
    """Return what gets the values of a span's fields from the arguments of a call."""
    if not span.fields:
        return lambda args, named: ()
    places = {}
    defaults: dict[str, Any] = {}
    code = getattr(function, "__code__", None)
    if isinstance(function, FunctionType) and isinstance(code, CodeType):
        positional = code.co_varnames[: code.co_argcount]
        places = {name: at for at, name in enumerate(positional)}
        keywords = code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]
        places.update({name: len(code.co_varnames) + code.co_argcount for name in keywords})
        given = function.__defaults__ or ()
        defaults = dict(zip(positional[len(positional) - len(given) :], given, strict=True))
        defaults.update(function.__kwdefaults__ or {})
    missing = [name for name in span.fields if name not in places]
    if missing:
        raise TypeError(
            f"{span.name}: {getattr(function, '__qualname__', function)!s} has no parameter "
            f"{', '.join(missing)}: use `with` and give the values"
        )
    fields = tuple((name, places[name]) for name in span.fields)

    def values(args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        found = []
        for name, place in fields:
            if name in named:
                found.append(named[name])
            elif place < len(args):
                found.append(args[place])
            elif name in defaults:
                found.append(defaults[name])
            else:
                # The function says what is wrong with the call.
                function(*args, **named)
                raise TypeError(f"{span.name}: no value for {name}")
        return tuple(found)

    return values
