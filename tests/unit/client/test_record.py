# SPDX-License-Identifier: MIT
"""The registry of a recording."""

from __future__ import annotations

import contextlib

import pytest

from ustconsumer.client import record


class Registry:
    """Ends with a word."""

    def close(self) -> list[str]:
        return ["not everything was written"]


@pytest.mark.parametrize(
    ("ending", "heard"),
    [
        (None, ["not everything was written"]),
        (RuntimeError(), ["not everything was written"]),
        # What daemons say that are stopped half-way in starting is no news.
        (SystemExit(143), []),
        (KeyboardInterrupt(), []),
    ],
)
def test_the_last_lines_of_the_registry_are_warnings(
    ending: BaseException | None, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "PrivateRegistry", Registry)
    lines: list[str] = []
    with (
        contextlib.suppress(RuntimeError, SystemExit, KeyboardInterrupt),
        record._private_registry(lines.append),
    ):
        if ending is not None:
            raise ending
    assert lines == heard
