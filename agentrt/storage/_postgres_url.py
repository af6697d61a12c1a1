"""Where a Postgres database is: URLs as SQLAlchemy, libpq and asyncpg write them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from agentrt.errors import ConfigurationError

# what other drivers take in a URL, and asyncpg would hand to the server as a setting
_DROPPED = frozenset({"channel_binding", "prepare_threshold", "prepared_statement_name_func", "connection_limit"})
_CACHE_SIZES = frozenset({"statement_cache_size", "prepared_statement_cache_size"})


@dataclass(frozen=True, slots=True)
class Place:
    """`dsn` is for asyncpg; `where` is for people, and holds no password."""

    dsn: str
    where: str
    statement_cache_size: int | None = None
    connect_timeout_s: float | None = None


def place_of(db_url: str) -> Place:
    """Raises `ConfigurationError` for what is no URL of a Postgres database."""
    try:
        url = urlsplit(db_url)
        settings = dict(parse_qsl(url.query, keep_blank_values=True))
        user, port = url.username, url.port or settings.get("port", 5432)
        host = ", ".join(name for name in (unquote(url.hostname or ""), settings.get("host", "")) if name)
        caches = [int(settings.pop(name)) for name in sorted(_CACHE_SIZES & settings.keys())]
        connect_timeout_s = float(settings.pop("connect_timeout")) if "connect_timeout" in settings else None
    except ValueError as error:
        if "," in db_url:  # several hosts, which asyncpg takes
            return Place(dsn=f"postgresql:{_rest_of(db_url)}", where="the hosts of db_url")
        raise ConfigurationError(f"db_url can't be read: {_hint(error)}") from None
    if url.scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise ConfigurationError(
            f"db_url begins with {url.scheme!r}; PostgresStorage takes postgresql://user:password@host:5432/database"
        )
    if settings.pop("pgbouncer", None) == "true":
        caches.append(0)
    if "ssl" in settings:  # SQLAlchemy's name for it
        settings["sslmode"] = {"true": "require", "false": "disable"}.get(settings["ssl"], settings.pop("ssl"))
        settings.pop("ssl", None)
    query = urlencode({name: value for name, value in settings.items() if name not in _DROPPED})
    database = unquote(url.path.lstrip("/")) or user or "postgres"
    return Place(
        dsn=urlunsplit(("postgresql", url.netloc, url.path, query, "")),
        where=f"{host or 'localhost'}:{port}/{database}",
        statement_cache_size=min(caches, default=None),
        connect_timeout_s=connect_timeout_s,
    )


def _rest_of(db_url: str) -> str:
    return db_url.partition(":")[2]


def _hint(error: ValueError) -> str:
    """What is wrong, without quoting the URL, which holds a password."""
    if "ort" in str(error):
        return "its port is not a number (a '@', ':' or '/' in the password is to be written %40, %3A, %2F)"
    return "it takes the form postgresql://user:password@host:5432/database"
