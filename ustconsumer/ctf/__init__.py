# SPDX-License-Identifier: MIT
"""Common Trace Format: field types, metadata and packets, both written and read; no numpy.

`Trace` reads what was recorded, event by event; it is resolved on first use.
"""

from __future__ import annotations

# Not from typing: a traced program imports this package.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ustconsumer.ctf.reading import Event as Event
    from ustconsumer.ctf.reading import Loss as Loss
    from ustconsumer.ctf.reading import Trace as Trace

__all__ = ["Event", "Loss", "Trace"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ustconsumer.ctf import reading

    return getattr(reading, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
