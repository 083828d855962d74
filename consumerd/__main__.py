# SPDX-License-Identifier: MIT
"""``ust-consumerd KIND SESSION``: one program, one module per kind of consumer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from consumerd import disk, network, snapshot

__all__ = ["main", "make_parser"]

_KINDS = {"disk": disk, "network": network, "snapshot": snapshot}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="ust-consumerd", description="Consume a recording session of ltt-sessiond."
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for name, module in _KINDS.items():
        doc = (module.__doc__ or "").partition(": ")[2]
        kind = kinds.add_parser(name, help=doc, description=doc)
        kind.add_argument("session", help="name of the session")
        kind.add_argument("--rundir", help="run directory of the registry")
        module.add_arguments(kind)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status."""
    arguments = make_parser().parse_args(argv)
    status: int = _KINDS[arguments.kind].main(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
