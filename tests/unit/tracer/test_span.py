# SPDX-License-Identifier: MIT
"""Spans: events at both ends, parents, exceptions, functions of every kind."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from helpers.tracing import Buffers, FakeRegistry

from ustconsumer.tracer import Provider, string, u32
from ustconsumer.tracer.process import Process
from ustconsumer.tracer.span import Running, Span, current


class Spans:
    """A provider that is recorded, and what was recorded of it so far."""

    def __init__(self, recorder: FakeRegistry, made: Buffers) -> None:
        self.provider = Provider("shop")
        self.span = self.provider.span
        self._recorder = recorder
        self._made = made

    def lines(self) -> list[str]:
        """Return the events, spans numbered in order: ``name number<parent values``."""
        lines = []
        numbers = {0: 0}
        for name, fields in self._recorder.values(self._made):
            number = numbers.setdefault(fields.pop("span_id"), len(numbers))
            line = f"{name.removeprefix('shop:')} {number}"
            if "parent_id" in fields:
                line += f"<{numbers[fields.pop('parent_id')]}"
            lines.append(
                " ".join([line, *(str(value) for value in fields.values() if value != "")])
            )
        return lines


@pytest.fixture
def spans(recorder: FakeRegistry) -> Spans:
    _, made = recorder.recording()
    return Spans(recorder, made)


def test_with_values(spans: Spans) -> None:
    checkout = spans.span("checkout", cart=u32, item=string)
    with checkout(cart=1, item="tea") as running:
        assert running.number >> 40 == os.getpid()
        assert current() is running
    with checkout(2, "milk"):
        pass
    assert current() is None
    assert spans.lines() == [
        "checkout_begin 1<0 1 tea",
        "checkout_end 1",
        "checkout_begin 2<0 2 milk",
        "checkout_end 2",
    ]


def test_nesting(spans: Spans) -> None:
    outer, inner = spans.span("outer"), spans.span("inner")
    with outer():
        with inner():
            pass
        with inner():
            pass
    with inner():
        pass
    assert spans.lines() == [
        "outer_begin 1<0",
        "inner_begin 2<1",
        "inner_end 2",
        "inner_begin 3<1",
        "inner_end 3",
        "outer_end 1",
        "inner_begin 4<0",
        "inner_end 4",
    ]


def test_an_exception_is_recorded_and_goes_on(spans: Spans) -> None:
    work = spans.span("work")
    with pytest.raises(KeyError), work(), work():
        raise KeyError("x")
    assert spans.lines()[2:] == ["work_end 2 KeyError", "work_end 1 KeyError"]
    assert current() is None


def test_nobody_records(program: Process) -> None:
    work = Provider("shop").span("work", number=u32)
    assert not work.enabled
    with work("not looked at") as running:
        assert running.number == 0
        assert current() is None
    # Nothing is made: the same object each time.
    assert work(1) is work(2)

    @work
    def double(number: int) -> int:
        return 2 * number

    assert double(4) == 8


def test_recording_begins_inside(recorder: FakeRegistry) -> None:
    work = Provider("shop").span("work")
    with work():
        _, made = recorder.recording()
        with work():
            pass
    assert [name for name, _ in recorder.values(made)] == ["shop:work_begin", "shop:work_end"]


def test_a_value_that_does_not_fit(spans: Spans) -> None:
    work = spans.span("work", number=u32)
    with pytest.raises(OverflowError, match="shop:work_begin: field 'number'"), work(-1):
        pytest.fail("entered")
    assert current() is None
    assert spans.lines() == []


def test_names_of_its_own(program: Process) -> None:
    with pytest.raises(ValueError, match="field 'span_id': a span has one of its own"):
        Provider("shop").span("work", span_id=u32)


def test_entered_twice(spans: Spans) -> None:
    running = spans.span("work")()
    with running:
        pass
    with pytest.raises(RuntimeError, match="shop:work was entered"), running:
        pytest.fail("entered")


def test_left_in_another_order(spans: Spans) -> None:
    work = spans.span("work")
    first, second = work(), work()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert current() is second
    second.__exit__(None, None, None)
    assert current() is None


def test_threads_begin_outside(spans: Spans) -> None:
    outer, inner = spans.span("outer"), spans.span("inner")

    def run() -> None:
        with inner():
            pass

    with outer():
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert "inner_begin 2<0" in spans.lines()


def test_children_have_numbers_of_their_own(spans: Spans) -> None:
    with spans.span("work")() as running:
        before = running.number
    read, write = os.pipe()
    child = os.fork()
    if not child:
        running = Running(spans.span("work"), (), {})
        running.begin()
        os.write(write, running.number.to_bytes(8, "little"))
        os._exit(0)
    os.waitpid(child, 0)
    number = int.from_bytes(os.read(read, 8), "little")
    os.close(read)
    os.close(write)
    assert (before >> 40, number >> 40) == (os.getpid(), child)


# -- functions ---------------------------------------------------------------------------


def test_a_function_and_its_parameters(spans: Spans) -> None:
    @spans.span("work", b=u32, a=u32, c=u32)
    def work(a: int, b: int = 2, *rest: int, c: int = 3) -> str:
        """Say it."""
        return f"{a} {b} {rest} {c}"

    assert work(1) == "1 2 () 3"
    assert work(5, 6, 7, 8, c=9) == "5 6 (7, 8) 9"
    assert work(b=11, a=10) == "10 11 () 3"
    assert (work.__name__, work.__doc__) == ("work", "Say it.")
    assert spans.lines()[::2] == [
        "work_begin 1<0 2 1 3",
        "work_begin 2<0 6 5 9",
        "work_begin 3<0 11 10 3",
    ]


def test_a_wrong_call_is_the_function_s_error(spans: Spans) -> None:
    @spans.span("work", a=u32)
    def work(a: int) -> None:
        pytest.fail("called")

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        work()
    assert spans.lines() == []


def test_methods(spans: Spans) -> None:
    span = spans.span("work", number=u32)

    class Worker:
        @span
        def method(self, number: int) -> int:
            return number

        @classmethod
        @span
        def of_class(cls, number: int) -> type:
            return cls

        @span
        @staticmethod
        def static(number: int) -> int:
            return number

        @span
        @classmethod
        def inner(cls, number: int) -> type:
            return cls

    assert Worker().method(1) == 1
    assert Worker.of_class(2) is Worker
    assert Worker.static(3) == 3
    assert Worker.inner(4) is Worker
    assert [line[-1] for line in spans.lines() if "begin" in line] == ["1", "2", "3", "4"]


def test_other_callables(spans: Spans) -> None:
    span = spans.span("work")
    assert span(functools.partial(int, base=2))("11") == 3
    assert span(len)([1]) == 1
    with pytest.raises(TypeError, match="len has no parameter number"):
        spans.span("other", number=u32)(len)
    with pytest.raises(TypeError, match="has no parameter number"):
        spans.span("other", number=u32)(lambda args: None)


def test_an_exception_leaves_a_function(spans: Spans) -> None:
    @spans.span("work")
    def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        work()
    assert spans.lines()[1] == "work_end 1 ValueError"


def test_coroutines(spans: Spans) -> None:
    inner = spans.span("inner", number=u32)

    @spans.span("outer", number=u32)
    async def outer(number: int) -> None:
        with inner(number):
            await asyncio.sleep(0)
            await asyncio.create_task(leaf(number))

    @spans.span("leaf", number=u32)
    async def leaf(number: int) -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(outer(1), outer(2))

    assert asyncio.iscoroutinefunction(outer)
    asyncio.run(main())
    lines = spans.lines()
    # Spans 1 and 2 are the two of `outer`, whatever the order of the rest.
    parents = {}
    for line in lines:
        name, numbers, *values = line.split()
        if name.endswith("_begin"):
            number, parent = numbers.split("<")
            parents[name.removesuffix("_begin") + values[0]] = (number, parent)
    for value in "12":
        assert parents[f"outer{value}"][1] == "0"
        assert parents[f"inner{value}"][1] == parents[f"outer{value}"][0]
        assert parents[f"leaf{value}"][1] == parents[f"inner{value}"][0]
    assert len([line for line in lines if "_end" in line]) == 6


def test_a_cancelled_task(spans: Spans) -> None:
    @spans.span("work")
    async def work() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert spans.lines() == ["work_begin 1<0", "work_end 1 CancelledError"]


def numbers(span: Span, inner: Span) -> Callable[..., Iterator[Any]]:
    @span
    def run(count: int) -> Iterator[Any]:
        received = []
        with inner():
            for number in range(count):
                try:
                    received.append((yield number))
                except KeyError as error:
                    received.append(error)
        return received

    return run


def test_generators(spans: Spans) -> None:
    run = numbers(spans.span("work"), spans.span("inner"))
    other = spans.span("other")
    generator: Any = run(3)
    # Nothing has run yet.
    assert spans.lines() == []
    assert next(generator) == 0
    # Who takes the values is not inside.
    assert current() is None
    with other():
        assert generator.send("a") == 1
        with other():
            pass
    assert generator.throw(KeyError("b")) == 2
    with pytest.raises(StopIteration) as stop:
        generator.send("c")
    assert stop.value.value[0] == "a"
    assert isinstance(stop.value.value[1], KeyError)
    assert stop.value.value[2] == "c"
    assert spans.lines() == [
        "work_begin 1<0",
        "inner_begin 2<1",
        "other_begin 3<0",
        "other_begin 4<3",
        "other_end 4",
        "other_end 3",
        "inner_end 2",
        "work_end 1",
    ]


def test_generators_that_do_not_run_to_the_end(spans: Spans) -> None:
    run = numbers(spans.span("work"), spans.span("inner"))
    generator: Any = run(3)
    next(generator)
    generator.close()
    generator = run(3)
    next(generator)
    with pytest.raises(ValueError, match="stop it"):
        generator.throw(ValueError("stop it"))
    assert spans.lines() == [
        "work_begin 1<0",
        "inner_begin 2<1",
        "inner_end 2 GeneratorExit",
        "work_end 1 GeneratorExit",
        "work_begin 3<0",
        "inner_begin 4<3",
        "inner_end 4 ValueError",
        "work_end 3 ValueError",
    ]
    assert current() is None


def test_async_generators(spans: Spans) -> None:
    inner = spans.span("inner")

    @spans.span("work", count=u32)
    async def run(count: int) -> AsyncIterator[int]:
        with inner():
            for number in range(count):
                await asyncio.sleep(0)
                yield number

    async def main() -> None:
        taken = []
        async for number in run(2):
            assert current() is None
            taken.append(number)
        assert taken == [0, 1]
        generator: Any = run(2)
        await anext(generator)
        await generator.aclose()
        generator = run(2)
        await anext(generator)
        with pytest.raises(ValueError, match="stop it"):
            await generator.athrow(ValueError("stop it"))

    asyncio.run(main())
    assert spans.lines() == [
        "work_begin 1<0 2",
        "inner_begin 2<1",
        "inner_end 2",
        "work_end 1",
        "work_begin 3<0 2",
        "inner_begin 4<3",
        "inner_end 4 GeneratorExit",
        "work_end 3 GeneratorExit",
        "work_begin 5<0 2",
        "inner_begin 6<5",
        "inner_end 6 ValueError",
        "work_end 5 ValueError",
    ]


def test_generators_that_nobody_records(program: Process) -> None:
    work, inner = Provider("shop").span("work"), Provider("shop").span("inner")
    generator: Any = numbers(work, inner)(2)
    assert next(generator) == 0
    assert generator.send("a") == 1
    with pytest.raises(StopIteration) as stop:
        generator.send("b")
    assert stop.value.value == ["a", "b"]

    @work
    async def agenerate() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def main() -> list[int]:
        return [number async for number in agenerate()]

    assert asyncio.run(main()) == [1, 2]


def test_spans_of_the_past_are_not_kept(spans: Spans) -> None:
    work = spans.span("work")
    last = work()
    last.__enter__()
    for _ in range(20):
        # As tasks do, each of which makes the next one and ends.
        following = work()
        following.__enter__()
        last.__exit__(None, None, None)
        last = following
    kept = 0
    each = last._parent
    while each is not None:
        each, kept = each._parent, kept + 1
    assert kept <= 1
    last.__exit__(None, None, None)
    assert current() is None
    assert spans.lines()[-2:] == ["work_begin 21<20", "work_end 20", "work_end 21"][-2:]
