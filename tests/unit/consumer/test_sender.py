# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import select
import socket
from pathlib import Path
from typing import Any, cast

from ustconsumer.consumer.flow import Outgoing
from ustconsumer.consumer.packet import Stream
from ustconsumer.consumer.relaylink import Identity
from ustconsumer.consumer.sender import Sender
from ustconsumer.consumer.spool import Spool
from ustconsumer.protocol.relayurl import parse_url
from ustconsumer.relay.wire import Credentials


class OneStream:
    id = 7


def test_who_reads_is_told_that_a_packet_was_kept(tmp_path: Path) -> None:
    """Its buffer may be full: then no writer tells him of anything."""
    # Nobody listens.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        spool = Spool(tmp_path / "s")
        identity = Identity(host="h", name="s", uuid=bytes(16), created=0, live_us=0, again=0)
        url = parse_url(f"net://127.0.0.1:{port}:{port}")
        sender = Sender(url, Credentials(), identity, keeper=spool)
        flow = sender.open(cast("Stream", cast("Any", OneStream())))
        # It says once that there is no relay.
        assert select.select([sender.fd], [], [], 60)[0]
        os.eventfd_read(sender.fd)
        sender.put(flow, Outgoing(b"packet", 4096, 1, 2, 0, 0))
        assert select.select([sender.fd], [], [], 0)[0]
        assert sender.take_arrived(flow).packets == 1
        sender.close(0)
    assert Spool(tmp_path / "s").count("7") == 1
