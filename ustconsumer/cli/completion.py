# SPDX-License-Identifier: MIT
"""``drtrace completion``."""

from __future__ import annotations

import argparse

from ustconsumer.cli.context import Context

__all__ = ["configure", "run"]

_SHELLS = ("bash", "zsh", "fish")
_NAMES = ("session", "channel", "context", "level")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        'bash: eval "$(drtrace completion bash)" in ~/.bashrc; zsh: write it to a file _drtrace in '
        "a directory of $fpath; fish: to ~/.config/fish/completions/drtrace.fish"
    )
    parser.add_argument("shell", nargs="?", choices=_SHELLS, help="%(choices)s")
    # What the scripts ask while a line is being typed.
    parser.add_argument("--names", choices=_NAMES, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace, context: Context) -> None:
    if arguments.names:
        for name in _names(arguments.names, context):
            context.say(name)
        return
    from ustconsumer.cli import shells

    if arguments.shell is None:
        from ustconsumer.errors import UsageError

        raise UsageError(f"which shell: {', '.join(_SHELLS)}")
    context.say(shells.script(arguments.shell).rstrip("\n"))


def _names(kind: str, context: Context) -> list[str]:
    """Return what there is of a kind; nothing where no registry answers: none is started."""
    if kind == "context":
        from ustconsumer.protocol.contexts import CONTEXT_NAMES

        return list(CONTEXT_NAMES)
    if kind == "level":
        from ustconsumer.abi.loglevels import LOGLEVELS

        return list(LOGLEVELS)
    from ustconsumer.client.registry import connect
    from ustconsumer.errors import UstConsumerError

    try:
        with connect(context.rundir) as registry:
            sessions = registry.sessions()
    except UstConsumerError:
        return []
    if kind == "session":
        return [session.name for session in sessions]
    return list(dict.fromkeys(channel.name for s in sessions for channel in s.channels))
