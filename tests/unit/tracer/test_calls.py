# SPDX-License-Identifier: MIT
"""Calls as events: what is told of functions, generators and coroutines, and of which."""

from __future__ import annotations

import asyncio
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from helpers.tracing import FakeRegistry

from ustconsumer.tracer import calls, chosen, trace_calls
from ustconsumer.tracer.process import Process

MONITORED = sys.version_info >= (3, 12)
NAME = f"{__name__}."


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(calls, "_made", None)
    yield
    assert calls._active == []


Read = Callable[[], list[str]]


@pytest.fixture
def read(recorder: FakeRegistry) -> Read:
    """Return the events so far, as ``call f``, ``return f KeyError``."""
    _, made = recorder.recording("python:*", subbuf_size=1 << 20)

    def lines() -> list[str]:
        return [
            " ".join(
                each
                for each in (
                    event.removeprefix("python:"),
                    fields["name"].removeprefix(NAME).replace(".<locals>", ""),
                    fields.get("exception", ""),
                )
                if each
            )
            for event, fields in recorder.values(made)
        ]

    return lines


#: The name of an exception's type, where the interpreter tells it.
def named(error: str) -> str:
    return error if MONITORED else "unknown"


def add(a: int, b: int) -> int:
    return a + b


def nothing() -> None:
    add(1, 2)


def factorial(number: int) -> int:
    return number * factorial(number - 1) if number else 1


def fail() -> None:
    raise KeyError("x")


def catch() -> None:
    try:
        fail()
    except KeyError:
        nothing()


def values() -> Iterator[Any]:
    try:
        yield 1
        yield None
    except KeyError:
        yield 3


class Cart:
    """For its methods."""

    def add(self) -> int:
        return self.inner()

    def inner(self) -> int:
        return int(next(values()))

    @staticmethod
    def fixed() -> int:
        return 1


def test_place_and_level(recorder: FakeRegistry, program: Process) -> None:
    _, made = recorder.recording("python:*")
    with trace_calls(__name__):
        add(1, 2)
    place = {"name": f"{NAME}add", "file": __file__, "line": add.__code__.co_firstlineno}
    assert recorder.values(made) == [
        ("python:call", place),
        ("python:return", {**place, "exception": ""}),
    ]
    assert {declared.loglevel for declared in program.declared.values()} == {12}


def test_functions_in_functions(read: Read) -> None:
    with trace_calls(__name__):
        nothing()
        factorial(2)
    assert read() == [
        *("call nothing", "call add", "return add", "return nothing"),
        *("call factorial", "call factorial", "call factorial"),
        *("return factorial", "return factorial", "return factorial"),
    ]


def test_exceptions(read: Read) -> None:
    with trace_calls(__name__):
        catch()
        with pytest.raises(KeyError):
            fail()
    assert read() == [
        *("call catch", "call fail", f"return fail {named('KeyError')}"),
        *("call nothing", "call add", "return add", "return nothing", "return catch"),
        *("call fail", f"return fail {named('KeyError')}"),
    ]


def endless() -> None:
    endless()


def test_recursion_without_end(read: Read) -> None:
    for _ in range(2):
        with trace_calls(endless, add), pytest.raises(RecursionError):
            endless()
    lines = read()
    assert lines.count("call endless") > 1000
    if MONITORED:
        assert lines.count("call endless") == lines.count("return endless RecursionError")
    # Before, the interpreter forgets a profile function that it has no room to call.
    with trace_calls(add):
        add(1, 2)
    assert read()[-2:] == ["call add", "return add"]


def test_generators(read: Read) -> None:
    with trace_calls(values):
        generator: Any = values()
        next(generator)
        next(generator)
        generator.throw(KeyError)
        list(generator)
    assert read() == [
        *("call values", "yield values", "resume values", "yield values"),
        *("resume values", "yield values", "resume values", "return values"),
    ]


def test_a_generator_that_an_exception_leaves(read: Read) -> None:
    with trace_calls(values):
        generator: Any = values()
        next(generator)
        with pytest.raises(ValueError, match="no"):
            generator.throw(ValueError("no"))
    assert read() == [
        *("call values", "yield values"),
        *("resume values", f"return values {named('ValueError')}"),
    ]


def plain() -> Iterator[int]:
    yield 1


def test_a_generator_that_an_exception_leaves_at_once(read: Read) -> None:
    with trace_calls(plain):
        generator: Any = plain()
        next(generator)
        with pytest.raises(ValueError, match="no"):
            generator.throw(ValueError("no"))
    assert read() == [
        *("call plain", "yield plain"),
        *("resume plain", f"return plain {named('ValueError')}"),
    ]


async def leaf() -> None:
    await asyncio.sleep(0)


async def numbers() -> AsyncIterator[int]:
    yield 1
    await leaf()
    yield 2


async def root() -> int:
    return sum([number async for number in numbers()])


def test_coroutines(read: Read) -> None:
    async def main() -> None:
        with trace_calls(root, numbers, leaf):
            assert await asyncio.gather(root(), root()) == [3, 3]

    asyncio.run(main())
    stack: list[str] = []
    for line in read():
        event, name, *_ = line.split()
        if event in ("call", "resume"):
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    assert sorted({line for line in read() if line.startswith(("call", "return"))}) == [
        *("call leaf", "call numbers", "call root"),
        *("return leaf", "return numbers", "return root"),
    ]
    for event in ("call", "return"):
        assert read().count(f"{event} root") == 2
    assert read().count("yield leaf") == read().count("resume leaf") == 2


def test_only_methods_of_a_class(read: Read) -> None:
    with trace_calls(Cart):
        Cart().add()
        Cart.fixed()
        add(1, 2)
    assert read() == [
        *("call Cart.add", "call Cart.inner", "return Cart.inner", "return Cart.add"),
        *("call Cart.fixed", "return Cart.fixed"),
    ]


def test_only_a_function(read: Read) -> None:
    def wrapped() -> None:
        add(3, 4)

    def wrapper() -> None:
        wrapped()

    wrapper.__wrapped__ = wrapped  # type: ignore[attr-defined]
    with trace_calls(wrapper, Cart().add):
        wrapper()
        Cart().add()
    name = "test_only_a_function.wrapped"
    assert read() == [f"call {name}", f"return {name}", "call Cart.add", "return Cart.add"]


def make(name: str, source: str = "def f(): return 1") -> Any:
    module = types.ModuleType(name)
    exec(compile(source, f"/nowhere/{name}.py", "exec"), vars(module))  # noqa: S102
    return module


def test_a_package_with_all_that_is_in_it(read: Read) -> None:
    modules = [make(name) for name in ("shop", "shop.cart", "shopping", "other")]
    with trace_calls(modules[0]):
        for module in modules:
            # Their code is equal, their modules are not.
            module.f()
    assert read() == ["call shop.f", "return shop.f", "call shop.cart.f", "return shop.cart.f"]


def test_everything_but_ours_and_imports(read: Read) -> None:
    with trace_calls():
        from ustconsumer.tracer.record import event_name

        event_name(Cart)
        add(1, 2)
        make("shop").f()
        sys.modules.pop("this_is_not_there", None)
        with pytest.raises(ImportError):
            import this_is_not_there  # type: ignore[import-not-found] # noqa: F401
    lines = read()
    assert "call add" in lines
    assert "return shop.f" in lines
    assert "call _pytest.python_api.raises" in lines or "call _pytest.raises.raises" in lines
    assert not [line for line in lines if "ustconsumer" in line or "importlib._bootstrap" in line]


def test_only_between_start_and_stop(read: Read) -> None:
    traced = trace_calls(add)
    add(0, 1)
    assert traced.start() is traced
    traced.start()
    add(0, 2)
    traced.stop()
    add(0, 3)
    traced.stop()
    assert read() == ["call add", "return add"]
    # What was left out once is not left out for ever.
    with trace_calls(values):
        add(0, 4)
    with traced:
        add(0, 5)
    assert read() == ["call add", "return add"] * 2


def test_several_at_once(read: Read) -> None:
    with trace_calls(add):
        with trace_calls(add, nothing):
            nothing()
        nothing()
    assert read() == [
        *("call nothing", "call add", "return add", "return nothing"),
        *("call add", "return add"),
    ]


def test_nobody_records(program: Process) -> None:
    with trace_calls():
        add(1, 2)
        catch()
        list(values())


def test_threads(read: Read) -> None:
    traced = trace_calls(add)
    ready, over = threading.Event(), threading.Event()

    def run() -> None:
        add(1, 2)
        ready.set()
        over.wait()
        # Stopped for this thread too.
        add(3, 4)

    with traced:
        thread = threading.Thread(target=run)
        thread.start()
        ready.wait()
    over.set()
    thread.join()
    assert read() == ["call add", "return add"]


@pytest.mark.parametrize("target", [3, None, len, "".join])
def test_no_target(program: Process, target: object) -> None:
    with pytest.raises(TypeError, match="written in Python"):
        trace_calls(target)


def test_functions_that_are_gone(read: Read) -> None:
    """A new function may be where an old one was."""
    with trace_calls("shop"):
        for number in range(200):
            make("shop", f"def f{number}(): return 1").__dict__[f"f{number}"]()
    names = [line.removeprefix("call ") for line in read() if line.startswith("call shop.f")]
    assert names == [f"shop.f{number}" for number in range(200)]


def test_functions_without_end_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "_MOST", 5)
    known = chosen.Known(chosen.Chosen(()))
    for number in range(20):
        code = compile("1", f"f{number}", "exec")
        place = known.learn(code, 1)
        assert place == (f"{NAME}<module>", f"f{number}", 1)
        assert known.places[id(code)] == place
        assert len(known.places) <= 5


def test_the_listener_is_not_the_program(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    from ustconsumer.tracer.listener import listener

    if not MONITORED:
        pytest.skip("before 3.12, threads of _thread are not heard of")
    monkeypatch.setattr(listener, "ident", threading.get_ident())
    with trace_calls(__name__):
        catch()
        list(values())
    assert read() == []


@pytest.mark.skipif(MONITORED, reason="sys.monitoring")
def test_profile_functions_are_put_back(read: Read) -> None:
    told: list[str] = []

    def profile(frame: Any, event: str, value: object) -> None:
        told.append(event)

    sys.setprofile(profile)
    threading.setprofile(profile)
    try:
        with trace_calls(add):
            add(1, 2)
        assert sys.getprofile() is profile
        assert threading.getprofile() is profile
        traced = trace_calls(add).start()
        sys.setprofile(None)
        threading.setprofile(None)
        # Somebody else's business by now.
        traced.stop()
        assert sys.getprofile() is None
        assert threading.getprofile() is None
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.mark.skipif(not MONITORED, reason="sys.setprofile")
def test_tools_of_the_interpreter(read: Read) -> None:
    monitoring = sys.monitoring  # type: ignore[attr-defined]
    before = [monitoring.get_tool(number) for number in range(6)]
    with trace_calls(add):
        assert "ustconsumer" in [monitoring.get_tool(number) for number in range(6)]
    assert [monitoring.get_tool(number) for number in range(6)] == before
    taken = []
    for number in range(6):
        if monitoring.get_tool(number) is None:
            monitoring.use_tool_id(number, "other")
            taken.append(number)
    try:
        with pytest.raises(RuntimeError, match="no tool id left"):
            trace_calls(add).start()
    finally:
        for number in taken:
            monitoring.free_tool_id(number)
    with trace_calls(add):
        add(1, 2)
    assert read() == ["call add", "return add"]
