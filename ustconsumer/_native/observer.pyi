# SPDX-License-Identifier: MIT
from collections.abc import Mapping

from typing_extensions import Buffer

__all__ = [
    "OBSERVE_DAMAGED",
    "OBSERVE_ELSEWHERE",
    "OBSERVE_ERRNO",
    "OBSERVE_OPEN",
    "OBSERVE_OVERTAKEN",
    "OBSERVE_WHOLE",
    "ObservedRing",
]

OBSERVE_WHOLE: int
OBSERVE_OVERTAKEN: int
OBSERVE_OPEN: int
OBSERVE_ELSEWHERE: int
OBSERVE_DAMAGED: int
OBSERVE_ERRNO: int

class ObservedRing:
    data_offset: int
    def __init__(
        self,
        memory: Buffer,
        places: Mapping[str, int],
        *,
        uuid: bytes = ...,
        stream_id: int = 0,
        cpu: int = 0,
    ) -> None: ...
    @property
    def status(self) -> int: ...
    @property
    def error(self) -> int: ...
    @property
    def packet_count(self) -> int: ...
    @property
    def byte_count(self) -> int: ...
    @property
    def last_end(self) -> int: ...
    def release(self) -> None: ...
    def restart(self) -> None: ...
    def positions(self) -> tuple[int, int]: ...
    def lost(self) -> int: ...
    def prefix(self, position: int) -> int: ...
    def begins(self, position: int) -> int | None: ...
    def take(self, position: int) -> bytes | None: ...
    def take_open(self, position: int, timestamp_end: int = 0) -> bytes | None: ...
    def write(self, first: int, end: int, data_fd: int, batch: int = 65536) -> tuple[int, int]: ...
    def write_open(
        self, position: int, data_fd: int, timestamp_end: int = 0, discarded: int | None = None
    ) -> int: ...
    def write_empty(
        self, position: int, data_fd: int, timestamp_begin: int, timestamp_end: int
    ) -> int: ...
