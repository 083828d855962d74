# SPDX-License-Identifier: MIT
from __future__ import annotations

import re
from pathlib import Path

from ustconsumer.protocol import control

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "protocol.md"


def test_the_document_names_every_message() -> None:
    tags = {
        each.__struct_config__.tag
        for each in vars(control).values()
        if isinstance(each, type)
        and issubclass(each, control.Message)
        and each is not control.Message
    }
    named = set(re.findall(r"`([a-z-]+)`", DOCUMENT.read_text()))
    assert len(tags) > 20
    assert tags <= named, tags - named
