# SPDX-License-Identifier: MIT
"""A producer's side of a connection: made, shown who we are."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import stat
import struct

from ustconsumer.errors import BrokenResourceError, UsageError
from ustconsumer.relay.wire import TOKEN_MAGIC, Credentials, Wire, explain, prepare

__all__ = ["dial", "read_token"]

_MAX_TOKEN = 4096
_LENGTH = struct.Struct(">H")


async def dial(
    host: str,
    port: int,
    *,
    ipv6: bool = False,
    tls: bool = False,
    zstd: bool = False,
    credentials: Credentials,
    patience: float,
) -> Wire:
    """Connect to a relay.

    Parameters
    ----------
    patience : float
        Seconds.

    Raises
    ------
    BrokenResourceError
        Nobody answers, or somebody whom we do not trust.
    UsageError
        A file of the credentials cannot be used.
    """
    peer = f"relay {host}:{port}"
    token = read_token(credentials.token_file) if credentials.token_file else b""
    context = _context(credentials) if tls else None
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(
                host,
                port,
                family=family,
                ssl=context,
                server_hostname=host if tls else None,
                ssl_handshake_timeout=patience if tls else None,
            ),
            patience,
        )
    except TimeoutError:
        raise BrokenResourceError(f"{peer}: no answer in {patience:.0f} s") from None
    except OSError as error:
        raise BrokenResourceError(f"{peer}: {explain(error)}") from None
    connection = writer.get_extra_info("socket")
    try:
        # A loop may have closed it before anybody saw it: who listened is gone again.
        if connection is None:
            raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        prepare(connection)
    except OSError as error:
        writer.transport.abort()
        raise BrokenResourceError(f"{peer}: {explain(error)}") from None
    if token:
        writer.write(TOKEN_MAGIC + _LENGTH.pack(len(token)) + token)
    return Wire(reader, writer, peer, compress=zstd)


def read_token(path: str) -> bytes:
    """Return the secret in a file, without white space around it.

    Raises
    ------
    UsageError
        It cannot be read, others can read it, or it is empty or far too long.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_MAX_TOKEN + 1).strip()
    except OSError as error:
        raise UsageError(f"cannot read token file {path}: {error.strerror}") from None
    if stat.S_ISREG(mode) and mode & 0o077:
        raise UsageError(f"others may read token file {path}: chmod 600 it")
    if not raw or len(raw) > _MAX_TOKEN:
        raise UsageError(f"token file {path} has {len(raw)} bytes: 1 to {_MAX_TOKEN}")
    return raw


def _context(credentials: Credentials) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=credentials.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if credentials.cert_file:
            context.load_cert_chain(credentials.cert_file, credentials.key_file or None)
    except (OSError, ValueError) as error:
        names = (credentials.ca_file, credentials.cert_file, credentials.key_file)
        files = ", ".join(filter(None, names))
        raise UsageError(f"cannot use certificate or key in {files}: {error}") from None
    return context
