"""What became of a call to Postgres: lost on the way, in conflict with another, or failed; and how to tell the user."""

from __future__ import annotations

import socket
import ssl

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from agentrt.errors import StorageError

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""All that asyncpg raises. `TimeoutError` is an `OSError`."""

CONFLICTS = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""Postgres undid the transaction; the same again may go through."""

_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,  # nothing can be sent any more: the server's last word has come, and its end has not
)


def is_lost(error: BaseException) -> bool:
    """Is the connection gone, or could none be made, so that another one may do better?"""
    if isinstance(error, OSError):
        return not isinstance(error, (TimeoutError, PermissionError, ssl.SSLError))
    return isinstance(error, _LOST)


def translated(error: BaseException, where: str, command_timeout_s: float) -> StorageError:
    """The error as a `StorageError` that names the database and the way out. To be raised `from` the error."""
    said = str(error) or type(error).__name__
    return StorageError(f"Postgres at {where} {_explanation(error).format(said=said, timeout=command_timeout_s)}")


def _explanation(error: BaseException) -> str:
    for kinds, text in _EXPLANATIONS:
        if isinstance(error, kinds):
            return text
    if is_lost(error):
        return "can't be reached ({said}). Start it, or correct db_url"
    return "can't do this: {said}"


_EXPLANATIONS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (
        asyncpg.TooManyConnectionsError,
        "has no connection left ({said}). Lower max_pool_size, or raise the server's max_connections",
    ),
    (
        (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError),
        "refuses this user or password ({said}). Correct db_url",
    ),
    (asyncpg.InvalidCatalogNameError, "has no such database ({said}). Create it, or correct db_url"),
    (
        asyncpg.InsufficientPrivilegeError,
        "does not allow this to the user of db_url ({said}). Grant it, or choose another schema",
    ),
    (asyncpg.ReadOnlySQLTransactionError, "takes no writes ({said}). db_url is to name the primary, not a replica"),
    (asyncpg.DiskFullError, "can't grow: its disk is full ({said}). Nothing was written; make room"),
    (
        (asyncpg.QueryCanceledError, TimeoutError),
        "took longer than command_timeout_s={timeout:g} ({said}). Raise that, or find what holds it up",
    ),
    (socket.gaierror, "can't be found ({said}). Correct the host in db_url"),
)
