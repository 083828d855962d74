# SPDX-License-Identifier: MIT
from collections.abc import Mapping
from typing import Any

_Steps = list[tuple[int, int]]

class EventCounter:
    def __init__(
        self, contexts: Mapping[int, _Steps], events: Mapping[int, Mapping[int, _Steps]]
    ) -> None: ...
    # Any: what exports a contiguous buffer of bytes (bytes, memoryview, mmap, ndarray).
    def count(self, data: Any) -> tuple[int, int, int]: ...
