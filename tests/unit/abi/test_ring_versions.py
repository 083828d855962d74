# SPDX-License-Identifier: MIT
from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from ustconsumer.abi.ring import RING_LAYOUTS, compatible

STRUCTURES = {
    "control": "control",
    "hot": "hot",
    "cold": "cold",
    "page": "page",
    "channel": "channel",
    "client": "client_config",
}


def _offsets() -> ModuleType:
    path = Path(__file__).with_name("offsets.py")
    spec = importlib.util.spec_from_file_location("offsets", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "version"), [("ust-8-x86_64", "V2_12"), ("ust-10-x86_64", "V2_14")]
)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_rows_are_where_the_headers_of_their_version_put_them(
    name: str, version: str, structure: str
) -> None:
    expected = dict(getattr(_offsets(), version)[structure])
    layout = RING_LAYOUTS[name]
    rows = getattr(layout, STRUCTURES[structure])
    assert rows.size == expected.pop("(size)")
    assert layout.channel_buf == expected.pop("(buf)", layout.channel_buf)
    assert expected.items() <= {row.name: row.offset for row in rows.rows}.items()


def test_only_the_newest_has_the_fillers_count_of_losses() -> None:
    named = {name for name, layout in RING_LAYOUTS.items() if len(layout.cold.rows) > 1}
    assert named == {"ust-10-x86_64"}


def test_tracers_of_one_socket_share_buffers() -> None:
    assert compatible("ust-8-x86_64", "ust-10-x86_64")
    assert compatible("ust-11-x86_64", "ust-11-x86_64")
    assert not compatible("ust-9-x86_64", "ust-11-x86_64")
