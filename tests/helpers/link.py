# SPDX-License-Identifier: MIT
"""A link to a relay that can be slow, stand still, or break; and one whose packets are lost."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

from helpers.relayd import Relayd

__all__ = ["Link", "can_lose_packets", "link", "losing"]

#: Close with a reset: nothing that is under way arrives.
_RESET = struct.pack("ii", 1, 0)
_PIECE = 16384
#: CLONE_NEWNET of <sched.h>.
_NEW_NET = 0x40000000


class Link:
    """Forwards what a producer and a relay say to each other, port by port.

    Attributes
    ----------
    url : str
        What the producer is told.
    flowing : threading.Event
        Cleared: connections stay, and nothing comes through.
    rate : float
        Bytes per second of each connection in each direction; 0: as fast as it goes.
    connections : int
        Made so far.
    """

    def __init__(self, relay: Relayd, listen: Callable[[], socket.socket]) -> None:
        self._relay = relay
        self._listening = [listen(), listen()]
        host, control = self._listening[0].getsockname()
        self.url = f"net://{host}:{control}:{self._listening[1].getsockname()[1]}"
        self.flowing = threading.Event()
        self.flowing.set()
        self.rate = 0.0
        self.connections = 0
        self._closed = False
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        for number in range(2):
            self._start(self._accept, number)

    def reset(self) -> None:
        """Break all connections that there are."""
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    # Wakes who reads from it; the last to let go of it resets.
                    each.shutdown(socket.SHUT_RD)
            self._open.clear()

    def close(self) -> None:
        """End it and its threads."""
        self._closed = True
        self.flowing.set()
        for each in self._listening:
            each.shutdown(socket.SHUT_RDWR)
        self.reset()
        for thread in self._threads:
            thread.join()
        for each in self._listening:
            each.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, number: int) -> None:
        while not self._closed:
            try:
                near, _ = self._listening[number].accept()
            except OSError:
                return
            port = (self._relay.control, self._relay.data)[number]
            try:
                far = socket.create_connection(("127.0.0.1", port))
            except OSError:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                near.close()
                continue
            with self._lock:
                self.connections += 1
                self._open += [near, far]
            left = [2]
            self._start(self._forward, near, far, left)
            self._start(self._forward, far, near, left)

    def _forward(self, source: socket.socket, to: socket.socket, left: list[int]) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE):
                self.flowing.wait()
                if self.rate:
                    time.sleep(len(piece) / self.rate)
                to.sendall(piece)
        with contextlib.suppress(OSError):
            to.shutdown(socket.SHUT_WR)
        with self._lock:
            left[0] -= 1
            if not left[0]:
                source.close()
                to.close()


def _loopback() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@contextlib.contextmanager
def link(relay: Relayd, listen: Callable[[], socket.socket] = _loopback) -> Iterator[Link]:
    """Have a link to a relay during the block."""
    made = Link(relay, listen)
    try:
        yield made
    finally:
        made.close()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=60)


def can_lose_packets() -> bool:
    """Return whether there can be a network namespace of our own."""
    name = f"ust-try-{os.getpid()}"
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    _ip("netns", "delete", name)
    return True


@contextlib.contextmanager
def losing(relay: Relayd) -> Iterator[tuple[Link, Callable[[bool], None]]]:
    """Have a link through a network namespace.

    Yields
    ------
    tuple of Link and callable
        What is called with True has all packets lost that come back from the relay.
    """
    name = f"ust-{os.getpid()}"
    outside, inside = f"uo{os.getpid()}", f"ui{os.getpid()}"
    net = f"198.18.{os.getpid() % 251}"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
        _ip("address", "add", f"{net}.1/24", "dev", outside)
        _ip("link", "set", outside, "up")
        _ip("-n", name, "address", "add", f"{net}.2/24", "dev", inside)
        _ip("-n", name, "link", "set", inside, "up")

        def lose(lost: bool) -> None:
            _ip("-n", name, "route", "add" if lost else "delete", "blackhole", f"{net}.1/32")

        with link(relay, lambda: _listen_in(f"/run/netns/{name}", f"{net}.2")) as made:
            yield made, lose
    finally:
        # Its end of the pair goes with it, and so does the other.
        _ip("netns", "delete", name)


def _listen_in(namespace: str, address: str) -> socket.socket:
    """Return a listening socket of a network namespace; we stay in ours."""
    made: list[socket.socket] = []

    def make() -> None:
        with open(namespace) as file:
            assert not ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _NEW_NET)
        made.append(socket.create_server((address, 0)))

    # A thread of its own: it stays there, and ends.
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]
