# SPDX-License-Identifier: MIT
"""``drtrace load``."""

from __future__ import annotations

import argparse
import os

from ustconsumer.cli.context import Context
from ustconsumer.errors import UsageError
from ustconsumer.protocol.control import Done

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", nargs="?", metavar="NAME", help="the one to load")
    parser.add_argument("-a", "--all", action="store_true", help="all sessions that are there")
    parser.add_argument(
        "-i",
        "--input-path",
        metavar="PATH",
        help="file or directory (default: ~/.lttng/sessions)",
    )
    parser.add_argument(
        "-f", "--force", action="store_true", help="destroy a session of the same name first"
    )
    parser.add_argument("--override-name", metavar="NAME", help="name of the loaded session")
    parser.add_argument(
        "--override-url", metavar="URL", help="directory, or URL of the relay, of its trace"
    )


def run(arguments: argparse.Namespace, context: Context) -> None:
    from ustconsumer.client.sessionfiles import read_saved, sessions_directory

    if arguments.all and arguments.session:
        raise UsageError("--all and the name of a session: give one of them")
    if not (arguments.all or arguments.session or arguments.input_path):
        raise UsageError("say which session, --all, or the file with --input-path")
    if arguments.override_name and not arguments.session:
        raise UsageError("--override-name is for one session: name that")
    place = arguments.input_path or sessions_directory()
    found = read_saved(place, arguments.session)
    if arguments.session and not found:
        raise UsageError(f"no session {arguments.session} is saved in {place}")
    with context.connect(start=True) as registry:
        for saved in found:
            if arguments.override_name:
                saved.name = arguments.override_name
            if arguments.override_url:
                _redirect(saved, arguments.override_url)
            session = registry.load(saved, replace=arguments.force)
            for line in saved.warnings:
                context.warn(line)
            context.say(f"Session {session.name} has been loaded successfully")
    if arguments.override_name:
        context.say(f"Session name overridden with {arguments.override_name}")
    if arguments.override_url:
        context.say(f"Session output url overridden with {arguments.override_url}")
    context.dump(Done())


def _redirect(saved: object, url: str) -> None:
    import msgspec

    from ustconsumer.client.saved import SavedSession
    from ustconsumer.protocol.destinations import is_relay_url

    assert isinstance(saved, SavedSession)
    if is_relay_url(url):
        saved.output = ""
        saved.destination = msgspec.structs.replace(saved.destination, url=url, data_url="")
    else:
        saved.output = os.path.abspath(url.removeprefix("file://"))
        saved.destination = msgspec.structs.replace(
            saved.destination, url="", data_url="", live_us=0
        )
