# SPDX-License-Identifier: MIT
"""The handler for `logging`."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers.tracing import FakeRegistry

from ustconsumer.tracer import Provider, log
from ustconsumer.tracer.process import Process


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.Logger("shop.cart")
    logger.propagate = False
    yield logger
    for handler in logger.handlers:
        handler.close()


Read = Callable[[], list[tuple[str, dict[str, Any]]]]


@pytest.fixture
def read(recorder: FakeRegistry) -> Read:
    _, made = recorder.recording()
    return lambda: recorder.values(made)


def test_a_record_and_its_fields(read: Read, logger: logging.Logger) -> None:
    logger.addHandler(log.Handler())
    logger.info("cart %d of %s", 7, "Ann")
    ((name, fields),) = read()
    line = fields.pop("line")
    assert name == "python:log_info"
    assert fields == {
        "message": "cart 7 of Ann",
        "logger": "shop.cart",
        "level": 20,
        "file": __file__,
        "function": "test_a_record_and_its_fields",
        "thread": threading.current_thread().name,
    }
    with open(__file__) as source:
        assert "cart %d of %s" in source.readlines()[line - 1]


@pytest.mark.parametrize(
    ("number", "name", "level"),
    [
        (60, "critical", 2),
        (50, "critical", 2),
        (49, "error", 3),
        (40, "error", 3),
        (30, "warning", 4),
        (25, "notice", 5),
        (20, "info", 6),
        (10, "debug", 14),
        (5, "debug", 14),
        (1, "debug", 14),
        (-5, "debug", 14),
    ],
)
def test_levels(
    program: Process, read: Read, logger: logging.Logger, number: int, name: str, level: int
) -> None:
    handler = log.Handler(level=-10)
    handler.handle(logging.LogRecord("l", number, "f", 1, "m", (), None))
    ((event, fields),) = read()
    assert event == f"python:log_{name}"
    assert fields["level"] == number
    assert program.declared[event].loglevel == level


def test_a_registry_chooses_by_level(recorder: FakeRegistry, logger: logging.Logger) -> None:
    session = recorder.session()
    made = recorder.make_channel(session)
    # At least as severe as a warning.
    recorder.rule(made.handle, "*", level_type=1, level=4)
    from ustconsumer.protocol import application

    recorder.do(application.enable(session))
    logger.addHandler(log.Handler())
    for level in (10, 20, 25, 30, 40, 50):
        logger.log(level, "x")
    assert [fields["level"] for _, fields in recorder.values(made)] == [30, 40, 50]


class Unasked(logging.Filter):
    """Nobody may ask it."""

    def filter(self, record: logging.LogRecord) -> bool:
        pytest.fail("asked")


def test_nobody_records(program: Process, logger: logging.Logger) -> None:
    handler = log.Handler()
    handler.addFilter(Unasked())
    logger.addHandler(handler)

    class Message:
        def __str__(self) -> str:
            pytest.fail("formatted")

    logger.error(Message())
    assert not handler.handle(logging.LogRecord("l", 40, "f", 1, Message(), (), None))
    handler.emit(logging.LogRecord("l", 40, "f", 1, Message(), (), None))


def test_level_and_filters_of_the_handler(read: Read, logger: logging.Logger) -> None:
    handler = log.Handler(logging.WARNING)
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    logger.addHandler(handler)
    logger.info("below")
    logger.warning("the secret")
    logger.warning("seen")
    assert [fields["message"] for _, fields in read()] == ["seen"]


def test_the_handler_s_formatter(read: Read, logger: logging.Logger) -> None:
    handler = log.Handler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.warning("a")
    assert read()[0][1]["message"] == "WARNING a"


def test_an_exception(read: Read, logger: logging.Logger) -> None:
    handler = log.Handler(traceback=True)
    logger.addHandler(handler)
    try:
        raise KeyError("tea")
    except KeyError:
        logger.exception("failed")
    logger.info("fine")
    logger.info("stack", stack_info=True)
    (_, failed), (_, fine), (_, stack) = read()
    assert failed["message"] == "failed"
    assert failed["traceback"].startswith("Traceback (most recent call last):\n")
    assert failed["traceback"].endswith("\nKeyError: 'tea'")
    assert fine["traceback"] == ""
    assert stack["traceback"].startswith("Stack (most recent call last):\n")


def test_an_exception_without_the_field(read: Read, logger: logging.Logger) -> None:
    logger.addHandler(log.Handler())
    try:
        raise KeyError("tea")
    except KeyError:
        logger.exception("failed")
    ((_, fields),) = read()
    assert fields["message"] == "failed"
    assert "traceback" not in fields


class Broken:
    """What cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("message", "arguments", "text"),
    [
        ("a\0b", (), "a"),
        ("\udc80", (), "?"),
        ("%d", ("x",), "%d"),
        ("%s %s", (1,), "%s %s"),
        (Broken(), (), "<Broken>"),
        (b"raw", (), "b'raw'"),
        ("", (), ""),
        (3, (), "3"),
    ],
)
def test_nothing_is_raised_or_printed(
    read: Read,
    logger: logging.Logger,
    capfd: pytest.CaptureFixture[str],
    message: object,
    arguments: tuple[object, ...],
    text: str,
) -> None:
    logger.addHandler(log.Handler(traceback=True))
    logger.error(message, *arguments)
    assert [fields["message"] for _, fields in read()] == [text]
    assert capfd.readouterr() == ("", "")


def test_a_record_made_by_hand(read: Read) -> None:
    handler = log.Handler(traceback=True)
    record = logging.makeLogRecord(
        {"levelno": 20, "name": None, "pathname": Broken(), "lineno": "x", "exc_info": (1, 2, 3)}
    )
    handler.handle(record)
    handler.handle(logging.makeLogRecord({"levelno": 1 << 40, "lineno": -1}))
    (_, first), (_, second) = read()
    assert (first["logger"], first["file"], first["line"]) == ("", "<Broken>", 0)
    assert second["line"] == (1 << 32) - 1


def test_two_handlers_share_their_events(read: Read, logger: logging.Logger) -> None:
    logger.addHandler(log.Handler())
    logger.addHandler(log.Handler())
    logger.info("x")
    assert len(read()) == 2
    with pytest.raises(ValueError, match="declared already"):
        log.Handler(traceback=True)
    other = log.Handler(traceback=True, provider_name="shop")
    other.handle(logging.LogRecord("l", 20, "f", 1, "m", (), None))
    assert read()[-1][0] == "shop:log_info"
    Provider("shop")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_logs_though_another_thread_was_logging(read: Read, logger: logging.Logger) -> None:
    handler = log.Handler()
    logger.addHandler(handler)
    # A lock of the handler that somebody holds is in nobody's way.
    handler.acquire()
    try:
        done = threading.Thread(target=logger.info, args=("x",))
        done.start()
        done.join(10)
        assert not done.is_alive()
    finally:
        handler.release()
    assert len(read()) == 1
    child = os.fork()
    if not child:
        logger.info("y")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
