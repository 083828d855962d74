# SPDX-License-Identifier: MIT
"""Whether somebody listens where a session's packets are to go."""

from __future__ import annotations

import socket

from ustconsumer.client.reach import why_unreachable
from ustconsumer.protocol.control import Destination


def test_a_port_with_and_without_a_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert why_unreachable(Destination(url=f"net://127.0.0.1:{port}")) == ""
    problem = why_unreachable(Destination(url=f"net://127.0.0.1:{port}"))
    assert problem == f"relay net://127.0.0.1:{port}:5343: Connection refused"


def test_a_host_that_is_none() -> None:
    # A name as long as none may be.
    problem = why_unreachable(Destination(url=f"net://{'a' * 300}"))
    assert problem.startswith("relay net://aaa")
    assert "\n" not in problem
