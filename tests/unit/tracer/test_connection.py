# SPDX-License-Identifier: MIT
"""Requests on the notify socket: answers, refusals, and registries that give none."""

from __future__ import annotations

import _socket
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from helpers.fakedaemon import exactly

from ustconsumer.ctf.types import EnumEntry, Field, Integer
from ustconsumer.errors import RemoteProtocolError
from ustconsumer.protocol import notify
from ustconsumer.protocol.tracer import ChannelRequest, EnumRequest, EventRequest
from ustconsumer.tracer.connection import _Notify
from ustconsumer.tracer.registrar import RefusedError

EVENT = EventRequest(3, 4, "shop:order", 13, "u32, n", (Field("n", Integer(32, False)),), "")
CHANNEL = ChannelRequest(3, 4, ())
ENUM = EnumRequest(3, "shop_kind", (EnumEntry("tea", 0, 0),))


class Pair:
    """Both sockets of a connection, and the registry's ends of them."""

    def __init__(self, timeout: float | None) -> None:
        self.ours: list[_socket.socket] = []
        self.theirs: list[socket.socket] = []
        for _ in range(2):
            one, other = socket.socketpair()
            ours = _socket.socket(fileno=one.detach())
            ours.setblocking(False)
            self.ours.append(ours)
            self.theirs.append(other)
        self.registrar = _Notify(self.ours[1], self.ours[0], timeout)
        self.asked: list[notify.Request] = []

    def answering(self, *answers: bytes) -> threading.Thread:
        """Give these answers, one to each request."""

        def serve() -> None:
            decoder = notify.NotifyDecoder()
            for answer in answers:
                requests: list[notify.Request] = []
                while not requests:
                    requests += decoder.feed(self.theirs[1].recv(1 << 16))
                self.asked += requests
                # In two pieces: it is read until it is whole.
                self.theirs[1].sendall(answer[:7])
                self.theirs[1].sendall(answer[7:])

        thread = threading.Thread(target=serve)
        thread.start()
        return thread

    def hung_up(self) -> bool:
        """Tell whether both sockets have ended, for the listener's thread to see."""
        return all(
            exactly(sock, 1 << 20) is not None and sock.recv(1) == b"" for sock in self.theirs
        )


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair(60)
    yield pair
    for sock in (*pair.ours, *pair.theirs):
        sock.close()


@pytest.fixture
def impatient() -> Iterator[Pair]:
    pair = Pair(0.02)
    yield pair
    for sock in (*pair.ours, *pair.theirs):
        sock.close()


def test_answers(pair: Pair) -> None:
    thread = pair.answering(
        notify.enum_reply(0, 1 << 40), notify.event_reply(0, 7), notify.channel_reply(0, 2, 1)
    )
    assert pair.registrar.enum(ENUM) == 1 << 40
    assert pair.registrar.event(EVENT) == 7
    assert pair.registrar.channel(CHANNEL) == (2, 1)
    thread.join()
    assert pair.asked == [ENUM, EVENT, CHANNEL]


def test_refusal_leaves_the_connection(pair: Pair) -> None:
    thread = pair.answering(notify.event_reply(-22, 0), notify.event_reply(0, 7))
    with pytest.raises(RefusedError) as refused:
        pair.registrar.event(EVENT)
    assert refused.value.code == -22
    assert pair.registrar.event(EVENT) == 7
    thread.join()


def test_no_answer(impatient: Pair) -> None:
    with pytest.raises(TimeoutError):
        impatient.registrar.event(EVENT)
    # A late one would be taken for that of the next request: there is no next one.
    assert impatient.hung_up()
    with pytest.raises(OSError, match="gone"):
        impatient.registrar.channel(CHANNEL)


def test_request_that_is_not_read(impatient: Pair) -> None:
    large = EVENT._replace(signature="x" * 60000)
    impatient.ours[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with pytest.raises(TimeoutError):
        impatient.registrar.event(large)
    assert impatient.hung_up()


@pytest.mark.parametrize("answer", [notify.channel_reply(0, 2), b"\xff" * 44])
def test_answer_that_makes_no_sense(pair: Pair, answer: bytes) -> None:
    thread = pair.answering(answer)
    with pytest.raises(RemoteProtocolError):
        pair.registrar.event(EVENT)
    thread.join()
    assert pair.hung_up()


def test_registry_that_is_gone(pair: Pair) -> None:
    pair.theirs[1].close()
    with pytest.raises(OSError, match=r"gone|Broken pipe"):
        pair.registrar.event(EVENT)
    with pytest.raises(OSError, match="gone"):
        pair.registrar.event(EVENT)


@pytest.mark.parametrize("call", ["event", "enum", "channel"])
def test_interrupt_in_between(pair: Pair, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Control-C while a tracepoint is declared: the answer is nobody's any more."""

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ustconsumer.tracer.connection._await", interrupt)
    ask: Callable[[object], object] = getattr(pair.registrar, call)
    with pytest.raises(KeyboardInterrupt):
        ask({"event": EVENT, "enum": ENUM, "channel": CHANNEL}[call])
    assert pair.hung_up()
