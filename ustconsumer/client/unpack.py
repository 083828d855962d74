# SPDX-License-Identifier: MIT
"""Makes plain traces of compressed ones, elsewhere or in their place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from ustconsumer.client.output import claim, given_output, unclaim
from ustconsumer.ctf.compressed import CompressedFile, frames
from ustconsumer.ctf.frames import SUFFIX
from ustconsumer.errors import DecodeError, UsageError

__all__ = ["Unpacked", "unpack"]

#: LTTng's, before the umask.
_MODE = 0o660


class Unpacked(msgspec.Struct, kw_only=True):
    """What was unpacked."""

    #: of the plain trace
    path: str
    #: files that were compressed
    files: int = 0
    #: of these, plain and compressed
    bytes: int = 0
    stored: int = 0
    #: what is missing or left as it was, one line each
    problems: list[str] = msgspec.field(default_factory=list)


def unpack(
    directory: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    in_place: bool = False,
) -> Unpacked:
    """Make a plain trace of all that is in and below a directory; of files that are plain, copies.

    Parameters
    ----------
    output : path, optional
        Absent or empty, not below the directory; by default its name with ``-plain``.
    in_place : bool
        Instead: each compressed file gives way to the plain one when all of them are there.

    Raises
    ------
    UsageError
        Nothing there is compressed, or the output cannot be used.
    OSError
        A file cannot be read or written.
    """
    source = given_output(directory)
    if not source.is_dir():
        raise UsageError(f"{source}: no such directory: name the directory of a trace")
    found = list(_files(source))
    if not any(path.suffix == SUFFIX for path in found):
        raise UsageError(f"{source}: no file below it is compressed: it is a plain trace, or none")
    if in_place:
        done = Unpacked(path=str(source))
        _replace(found, done)
        return done
    target = source.with_name(f"{source.name}-plain") if output is None else given_output(output)
    if target.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"output directory {target} is in {source}: name another with -o")
    made = claim(target)
    done = Unpacked(path=str(target))
    try:
        for path in found:
            _write(path, target / path.relative_to(source), done)
    finally:
        unclaim(made)
    return done


def _files(directory: Path) -> Iterator[Path]:
    """Yield the regular files below a directory; of two forms of one the plain one."""
    for place, directories, names in os.walk(directory):
        directories.sort()
        for name in sorted(names):
            path = Path(place, name)
            doubled = name.endswith(SUFFIX) and name.removesuffix(SUFFIX) in names
            if path.is_file() and not path.is_symlink() and not doubled:
                yield path


def _write(path: Path, target: Path, done: Unpacked) -> None:
    target.parent.mkdir(mode=0o770, parents=True, exist_ok=True)
    if path.suffix == SUFFIX:
        _decompress(path, target.with_name(path.stem), done)
    else:
        with path.open("rb") as plain, _create(target) as file:
            shutil.copyfileobj(plain, file)


def _replace(found: list[Path], done: Unpacked) -> None:
    """Write all plain files, under names that no reader takes until they are whole."""
    packed = [path for path in found if path.suffix == SUFFIX]
    parts = {}
    try:
        for path in packed:
            part = path.with_name(f".{path.stem}.part")
            part.unlink(missing_ok=True)
            before = len(done.problems)
            parts[path] = part
            _decompress(path, part, done)
            if len(done.problems) > before:
                # What is left of it stays where it is.
                del parts[path]
                part.unlink()
        for path, part in parts.items():
            part.rename(path.with_name(path.stem))
    except BaseException:
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise
    for path in parts:
        path.unlink()


def _decompress(path: Path, target: Path, done: Unpacked) -> None:
    """Write what a file becomes, as far as it is whole."""
    with path.open("rb") as packed, _create(target) as file:
        try:
            known = frames(packed.fileno(), str(path))
            for content in CompressedFile(packed.fileno(), str(path), known):
                file.write(content)
                done.bytes += len(content)
        except DecodeError as error:
            done.problems.append(f"{error}: nothing from there on is unpacked")
        else:
            if known.torn:
                done.problems.append(f"{path}: cut off, the last {known.torn} bytes are no frame")
        file.flush()
        # The compressed file may go when this one is there.
        os.fsync(file.fileno())
        done.files += 1
        done.stored += os.fstat(packed.fileno()).st_size


def _create(path: Path) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, _MODE), "wb")
