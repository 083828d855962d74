# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path

import pytest
from helpers.ustctl import compile_ust_ctl


@pytest.fixture(scope="session")
def ust_ctl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program that drives LTTng's control library."""
    return compile_ust_ctl(tmp_path_factory.mktemp("ust-ctl"))
