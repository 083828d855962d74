# SPDX-License-Identifier: MIT
from typing_extensions import Buffer

__all__ = ["Window"]

class Window(Buffer):
    exports: int
    def __init__(self, memory: Buffer, start: int, size: int) -> None: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
