# SPDX-License-Identifier: MIT
"""The client's connection against a small registry on the other end of a socket pair."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from ustconsumer.client import search as module
from ustconsumer.client.connection import Connection
from ustconsumer.client.search import rundirs
from ustconsumer.errors import (
    BrokenResourceError,
    ClosedResourceError,
    CommandError,
    RemoteProtocolError,
)
from ustconsumer.paths import CONTROL_SOCKET
from ustconsumer.protocol.control import (
    MAX_FDS,
    VERSION,
    Attach,
    Attached,
    Done,
    Drain,
    Failed,
    FrameDecoder,
    Hello,
    Message,
    SessionEnded,
    StartSession,
    Welcome,
    encode,
)

Answer = Callable[[Message, "Peer"], None]


class Peer:
    """The registry's end: answers the hello, then calls ``answer`` for each message."""

    def __init__(self, answer: Answer, version: int = VERSION) -> None:
        self.socket, self.client = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.received: list[Message] = []
        self._answer = answer
        self._version = version
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def send(self, *messages: Message, fds: tuple[int, ...] = ()) -> None:
        """Send messages in one segment, the descriptors with the first."""
        raw = b"".join(encode(message, 0 if i else len(fds)) for i, message in enumerate(messages))
        socket.send_fds(self.socket, [raw], list(fds))

    def _run(self) -> None:
        decoder = FrameDecoder()
        while chunk := self.socket.recv(65536):
            for message, _ in decoder.feed(chunk, []):
                self.received.append(message)
                if isinstance(message, Hello):
                    welcome = Welcome(version=self._version, release="9", pid=1, uid=0, rundir="/x")
                    welcome.seq = message.seq
                    self.send(welcome)
                else:
                    self._answer(message, self)

    def end(self) -> None:
        self.client.close()
        self._thread.join()
        self.socket.close()


@pytest.fixture
def peer(request: pytest.FixtureRequest) -> Iterator[Callable[..., Peer]]:
    made: list[Peer] = []

    def make(answer: Answer = lambda message, peer: None, version: int = VERSION) -> Peer:
        made.append(Peer(answer, version))
        return made[-1]

    yield make
    for one in made:
        one.end()


def reply_to(message: Message, reply: Message) -> Message:
    reply.seq = message.seq
    return reply


def test_pushes_before_and_after_a_reply_in_one_segment_are_kept_in_order(peer):
    def answer(message: Message, self: Peer) -> None:
        self.send(Drain(token=1, final=False), reply_to(message, Done()), SessionEnded())

    connection = Connection(peer(answer).client, "consumer")
    assert isinstance(connection.request(StartSession(session="s")), Done)
    assert connection.pending == 2
    first, second = connection.receive(0), connection.receive(0)
    assert first == (Drain(token=1, final=False), [])
    assert second == (SessionEnded(), [])
    assert connection.receive(0) is None
    connection.close()


def test_a_frame_split_at_every_byte_arrives_whole(peer):
    raw = encode(Drain(token=77, final=True))

    def answer(message: Message, self: Peer) -> None:
        for i in range(len(raw)):
            self.socket.send(raw[i : i + 1])

    connection = Connection(peer(answer).client)
    connection.send(StartSession(session="s"))
    assert connection.receive(60) == (Drain(token=77, final=True), [])
    connection.close()


def test_descriptors_come_with_their_reply_close_on_exec(peer):
    read, write = os.pipe()

    def answer(message: Message, self: Peer) -> None:
        attached = Attached(session="s", id="1", output="/o", streams=0)
        self.send(reply_to(message, attached), SessionEnded(), fds=(read,))

    connection = Connection(peer(answer).client, "consumer")
    reply, fds = connection.exchange(Attach(session="s", consume=True, kind="disk"))
    assert isinstance(reply, Attached)
    (mine,) = fds
    assert os.fstat(mine).st_ino == os.fstat(read).st_ino
    assert not os.get_inheritable(mine)
    assert connection.receive(0) == (SessionEnded(), [])
    connection.close()
    for fd in (mine, read, write):
        os.close(fd)


def test_descriptors_nobody_asked_for_are_closed_with_the_connection(peer):
    read, write = os.pipe()

    def answer(message: Message, self: Peer) -> None:
        self.send(Drain(token=1, final=False), reply_to(message, Done()), fds=(write,))

    connection = Connection(peer(answer).client)
    connection.request(StartSession(session="s"))
    os.close(write)
    connection.close()
    # Every copy of the write end is gone, so the pipe is at its end.
    assert os.read(read, 1) == b""
    os.close(read)


def test_request_closes_the_descriptors_of_its_reply(peer):
    read, write = os.pipe()

    def answer(message: Message, self: Peer) -> None:
        attached = Attached(session="s", id="1", output="/o", streams=0)
        self.send(reply_to(message, attached), fds=(write,))

    with Connection(peer(answer).client) as connection:
        connection.request(Attach(session="s", consume=True, kind="disk"))
        os.close(write)
        os.set_blocking(read, False)
        assert os.read(read, 1) == b""
    os.close(read)


def test_a_refusal_is_raised_with_its_kind_and_the_connection_goes_on(peer):
    replies = iter([Failed(message="no such thing", kind="no-such-session"), Done()])

    def answer(message: Message, self: Peer) -> None:
        self.send(reply_to(message, next(replies)))

    connection = Connection(peer(answer).client)
    with pytest.raises(CommandError, match=r"^no such thing$") as caught:
        connection.request(StartSession(session="s"))
    assert caught.value.kind == "no-such-session"
    assert isinstance(connection.request(StartSession(session="s")), Done)
    connection.close()


def test_another_version_is_refused(peer):
    with pytest.raises(CommandError, match="restart it") as caught:
        Connection(peer(version=VERSION + 1).client)
    assert caught.value.kind == "version"


def test_the_end_of_the_registry_is_an_error_everywhere(peer):
    connection = Connection(peer(lambda message, self: self.socket.shutdown(2)).client)
    with pytest.raises(BrokenResourceError):
        connection.request(StartSession(session="s"))
    with pytest.raises(BrokenResourceError):
        connection.receive(0)
    connection.close()
    with pytest.raises(ClosedResourceError):
        connection.request(StartSession(session="s"))
    with pytest.raises(ClosedResourceError):
        connection.fileno()


def test_silence_ends_the_connection(peer):
    connection = Connection(peer().client)
    with pytest.raises(BrokenResourceError, match="no answer"):
        connection.request(StartSession(session="s"), timeout=0.01)
    with pytest.raises(ClosedResourceError):
        connection.send(StartSession(session="s"))


def test_an_answer_to_another_request_is_a_protocol_error(peer):
    def answer(message: Message, self: Peer) -> None:
        wrong = Done()
        wrong.seq = message.seq + 1
        self.send(wrong)

    connection = Connection(peer(answer).client)
    with pytest.raises(RemoteProtocolError):
        connection.request(StartSession(session="s"))
    connection.close()


@pytest.mark.parametrize("broken", [encode(Done(seq=99)), b"\xff" * 8], ids=["seq", "size"])
def test_descriptors_around_a_broken_message_are_closed_with_the_connection(peer, broken):
    read, write = os.pipe()

    def answer(message: Message, self: Peer) -> None:
        push = encode(Drain(token=1, final=False), 1)
        socket.send_fds(self.socket, [push + broken + push], [write, write])

    connection = Connection(peer(answer).client, "consumer")
    with pytest.raises(RemoteProtocolError):
        connection.request(StartSession(session="s"))
    connection.close()
    os.close(write)
    # Every copy of the write end is gone, so the pipe is at its end.
    os.set_blocking(read, False)
    assert os.read(read, 1) == b""
    os.close(read)


def test_descriptors_lost_on_the_way_are_a_protocol_error(peer):
    """More than we take at once: which of them came is anybody's guess."""
    read, write = os.pipe()

    def answer(message: Message, self: Peer) -> None:
        frame = encode(Drain(token=1, final=False), MAX_FDS)
        socket.send_fds(self.socket, [frame], [write] * (MAX_FDS + 9))

    connection = Connection(peer(answer).client, "consumer")
    with pytest.raises(RemoteProtocolError, match="lost on the way"):
        connection.request(StartSession(session="s"))
    connection.close()
    os.close(write)
    os.set_blocking(read, False)
    assert os.read(read, 1) == b""
    os.close(read)


def test_descriptors_that_no_frame_announces_are_not_hoarded():
    decoder = FrameDecoder()
    numbers = list(range(10_000, 10_000 + 4 * MAX_FDS + 1))
    with pytest.raises(RemoteProtocolError, match="more descriptors"):
        list(decoder.feed(b"", numbers))
    # For the caller to close.
    assert decoder.close() == numbers


def test_connect_without_a_registry_says_where_it_looked(tmp_path):
    with pytest.raises(BrokenResourceError, match=rf"{tmp_path}/{CONTROL_SOCKET}.*drtrace create"):
        Connection.connect(tmp_path)
    with pytest.raises(BrokenResourceError, match=r"too long.*--rundir"):
        Connection.connect(tmp_path / ("x" * 200))


def test_a_registry_that_hangs_up_on_the_hello_is_passed_over(tmp_path, monkeypatch):
    """A global socket somebody left, or whose registry does not serve us, is not the end."""
    left = tmp_path / "left"
    left.mkdir()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(left / CONTROL_SOCKET))  # bound, nobody listens
    monkeypatch.setattr(module, "rundirs", lambda override: [left, tmp_path / "none"])
    with pytest.raises(BrokenResourceError, match=f"{tmp_path}/none"):
        Connection.connect()
    stale.close()


def test_a_registry_that_refuses_this_user_is_passed_over(tmp_path, monkeypatch, peer):
    """The global one, to whose group the user does not belong; another refusal is the end."""

    def refuse(kind):
        def serve():
            for _ in range(2):
                sock, _ = listener.accept()
                with sock:
                    sock.recv(65536)
                    sock.sendall(encode(Failed(message="you may not", kind=kind)))

        return serve

    for kind, words in (("permission", "no session registry at .*none.*"), ("version", "you may")):
        left = tmp_path / kind
        left.mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(left / CONTROL_SOCKET))
            listener.listen()
            server = threading.Thread(target=refuse(kind))
            server.start()
            places = [left, tmp_path / "none"]
            monkeypatch.setattr(module, "rundirs", lambda override, places=places: places)
            with pytest.raises((BrokenResourceError, CommandError), match=words):
                Connection.connect()
            # Where there is no other one, it is what there is to say.
            monkeypatch.setattr(module, "rundirs", lambda override, places=places: places[:1])
            with pytest.raises(CommandError, match="you may not"):
                Connection.connect()
            server.join()


def test_an_ordinary_user_prefers_the_global_registry(monkeypatch, tmp_path):
    monkeypatch.delenv("LTTNG_UST_CTL_PATH", raising=False)
    monkeypatch.setenv("LTTNG_HOME", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert [str(place) for place in rundirs()] == ["/var/run/lttng", f"{tmp_path}/.lttng"]
    assert [str(place) for place in rundirs("/r")] == ["/r"]
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert [str(place) for place in rundirs()] == ["/var/run/lttng"]
