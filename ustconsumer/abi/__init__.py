# SPDX-License-Identifier: MIT
"""Facts about memory and messages of LTTng-UST, as rows per ABI version.

No algorithm lives here and no offset lives elsewhere. Nothing in this package
imports numpy when it is imported; ``dtypes`` does and is imported on demand.
"""

from __future__ import annotations

__all__: list[str] = []
