# SPDX-License-Identifier: MIT
"""Channel object of a registry: what it says, checked before it is believed.

Notes
-----
Source: lttng-ust ``src/lib/lttng-ust/lttng-ust-abi.c`` (``lttng_abi_map_channel``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ustconsumer.abi.ring import (
    MODE_DISCARD,
    MODE_OVERWRITE,
    OUTPUT_MMAP,
    RING_LAYOUTS,
    WAKEUP_BY_TIMER,
    WAKEUP_BY_WRITER,
)
from ustconsumer.errors import RemoteProtocolError, UsageError
from ustconsumer.ringbuffer.geometry import Geometry

__all__ = ["ChannelObject", "parse_blob"]

_LAYOUT = RING_LAYOUTS["ust-9-x86_64"]
_MAX_STREAMS = 1 << 14


class ChannelObject(NamedTuple):
    """A channel as the registry made it; ``nr_streams`` is one per CPU."""

    geometry: Geometry
    id: int
    uuid: bytes
    nr_streams: int
    blocking_ms: int


def parse_blob(blob: bytes) -> ChannelObject:
    """Return what a channel object says.

    Raises
    ------
    RemoteProtocolError
        It contradicts itself, or is for another kind of tracer.
    """
    layout = _LAYOUT.channel
    if len(blob) < layout.size + _LAYOUT.client_config.size:
        raise RemoteProtocolError(f"channel object of {len(blob)} bytes")
    values = layout.get_all(blob)
    nr_streams: int = values["nr_streams"]
    if not 1 <= nr_streams <= _MAX_STREAMS:
        raise RemoteProtocolError(f"channel of {nr_streams} streams")
    private: int = values["priv_data_offset"]
    # The references to the streams come before it, from inside the structure's padding on.
    least = max(layout.size, _LAYOUT.channel_buf + nr_streams * _LAYOUT.ref)
    client = _LAYOUT.client_config
    if not least <= private <= len(blob) - client.size or private % client.align:
        raise RemoteProtocolError(f"channel object of {len(blob)} bytes, its end at {private}")
    return ChannelObject(
        _geometry(values),
        client.get(blob, private, "id"),
        client.get(blob, private, "uuid"),
        nr_streams,
        values["blocking_timeout_ms"],
    )


def _geometry(values: dict[str, Any]) -> Geometry:
    mode, wakeup = values["config_mode"], values["config_wakeup"]
    if (
        values["config_output"] != OUTPUT_MMAP
        or mode not in (MODE_DISCARD, MODE_OVERWRITE)
        or wakeup not in (WAKEUP_BY_TIMER, WAKEUP_BY_WRITER)
        or values["record_disabled"]
    ):
        raise RemoteProtocolError(f"channel of mode {mode}, wake-up {wakeup}: unknown")
    if values["blocking_timeout_ms"] < -1:
        raise RemoteProtocolError(f"blocking timeout of {values['blocking_timeout_ms']} ms")
    try:
        geometry = Geometry(
            _LAYOUT,
            values["subbuf_size"],
            values["num_subbuf"],
            overwrite=mode == MODE_OVERWRITE,
            by_writer=wakeup == WAKEUP_BY_WRITER,
        )
    except UsageError as error:
        raise RemoteProtocolError(f"channel object: {error}") from None
    derived = {
        "buf_size": geometry.buf_size,
        "subbuf_size_order": geometry.subbuf_size.bit_length() - 1,
        "num_subbuf_order": geometry.num_subbuf.bit_length() - 1,
        "buf_size_order": geometry.buf_size.bit_length() - 1,
        "commit_count_mask": geometry.commit_count_mask,
    }
    for name, expected in derived.items():
        if values[name] != expected:
            raise RemoteProtocolError(f"channel object: {name} is {values[name]}, not {expected}")
    return geometry
