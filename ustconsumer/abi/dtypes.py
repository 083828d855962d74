# SPDX-License-Identifier: MIT
"""numpy dtypes derived from rows. The only module of ``abi`` that imports numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ustconsumer.abi.rows import Layout

__all__ = ["structure_dtype"]


def structure_dtype(layout: Layout) -> np.dtype[np.void]:
    """Return a structured dtype with the layout's fields, offsets and item size.

    Parameters
    ----------
    layout : Layout

    Returns
    -------
    dtype
        ``itemsize`` is the structure's size, so that an array of it has C's stride.
    """
    return np.dtype(
        {
            "names": [row.name for row in layout.rows],
            "formats": [row.format for row in layout.rows],
            "offsets": [row.offset for row in layout.rows],
            "itemsize": layout.size,
        }
    )
