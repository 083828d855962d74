# SPDX-License-Identifier: MIT
"""Context fields by name: what may be recorded with every event of a channel."""

from __future__ import annotations

import re
from typing import NamedTuple

from ustconsumer.abi.application import CONTEXTS, ContextNumber
from ustconsumer.abi.perf import PERF_COUNTERS, PERF_RAW
from ustconsumer.errors import UsageError

__all__ = ["CONTEXT_NAMES", "Context", "parse_context"]

#: What a name of a context, application's or counter's, may have with its NUL.
_MAX_NAME = 256
_RAW = re.compile(r"perf:thread:raw:r([0-9A-Fa-f]{1,16}):([!-9;-~]+)")
_APPLICATION = re.compile(r"\$app\.([^:]+):(.+)")

#: Every name without a free part, as ``add-context --list`` shows them.
CONTEXT_NAMES = (*CONTEXTS, *(f"perf:thread:{name}" for name in PERF_COUNTERS))


class Context(NamedTuple):
    """A context field.

    Attributes
    ----------
    name : str
        As users write it.
    number : int
        LTTng-UST's of its kind.
    perf : tuple of (int, int, str) or None
        Of a performance counter: ``perf_event_attr.type``, ``.config``, name of the field.
    provider, field : str
        Of a context that applications provide.
    """

    name: str
    number: int
    perf: tuple[int, int, str] | None = None
    provider: str = ""
    field: str = ""


def parse_context(name: str) -> Context:
    """Return the context of a name.

    Parameters
    ----------
    name : str
        One of `CONTEXT_NAMES`, ``perf:thread:raw:rN:NAME`` with N in hexadecimal, or
        ``$app.PROVIDER:NAME``.

    Raises
    ------
    UsageError
        There is none of this name.
    """
    if name in CONTEXTS:
        return Context(name, CONTEXTS[name])
    if name.startswith("$app."):
        return _application(name)
    if name.startswith("perf:"):
        return _counter(name)
    raise UsageError(
        f"unknown context {name!r}: use one of {', '.join(CONTEXTS)}, perf:thread:COUNTER or "
        "$app.PROVIDER:NAME (`drtrace add-context --list` shows all)"
    )


def _application(name: str) -> Context:
    match = _APPLICATION.fullmatch(name)
    if match is None or not name.isprintable():
        raise UsageError(f"{name!r}: contexts of applications are $app.PROVIDER:NAME")
    if len(name.encode()) >= _MAX_NAME:
        raise UsageError(f"{name!r} is too long: at most {_MAX_NAME - 1} bytes")
    return Context(name, ContextNumber.APP_CONTEXT, None, match[1], match[2])


def _counter(name: str) -> Context:
    kind, config = PERF_COUNTERS.get(name.removeprefix("perf:thread:"), (-1, 0))
    if not name.startswith("perf:thread:"):
        raise UsageError(f"{name!r}: counters of user space are perf:thread:COUNTER")
    if kind < 0:
        raw = _RAW.fullmatch(name)
        if raw is None:
            raise UsageError(
                f"unknown counter {name!r}: `drtrace add-context --list` shows their names; "
                "others are perf:thread:raw:rN:NAME, N in hexadecimal"
            )
        kind, config = PERF_RAW, int(raw[1], 16)
    # As lttng names the field.
    field = re.sub("[:-]", "_", name)
    if len(field) >= _MAX_NAME:
        raise UsageError(f"{name!r} is too long: at most {_MAX_NAME - 1} bytes")
    return Context(name, ContextNumber.PERF_THREAD_COUNTER, (kind, config, field))
