# SPDX-License-Identifier: MIT
__all__ = ["start_writeback"]

def start_writeback(fd: int, offset: int, length: int) -> None: ...
