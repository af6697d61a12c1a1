"""Logging, by the standard library's `logging`.

    from agentrt.utils.log import logger
    logger.info("Cache hit", city="Rome")

`logger` is for programs: a structlog logger whose INFO lines are seen on stderr. agentrt itself logs below the logger
"agentrt", warnings and worse only, and shows nothing by itself. As soon as a program configures `logging` (the root
logger has a handler), everything goes there and nowhere else.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger

    logger: BoundLogger

LIBRARY = "agentrt"
PROGRAM = "agentrt.app"

logging.getLogger(LIBRARY).addHandler(logging.NullHandler())
logging.getLogger(LIBRARY).setLevel(logging.WARNING)


def set_log_level(level: int | str) -> None:
    """Show lines of this level (`"debug"`, `logging.INFO`, …) and above: those of `logger` and agentrt's own."""
    number = level.upper() if isinstance(level, str) else level
    logging.getLogger(PROGRAM).setLevel(number)
    logging.getLogger(LIBRARY).setLevel(number)
    _show()


def library_logger(name: str, *, debug: bool = False) -> logging.Logger:
    """Return agentrt's own logger of this name; with `debug`, its DEBUG lines are shown. For `debug_mode`."""
    own = logging.getLogger(f"{LIBRARY}.{name}")
    if debug:
        own.setLevel(logging.DEBUG)
        _show()
    return own


# --- showing ---------------------------------------------------------------------------------------------------------


class _Stderr(logging.StreamHandler[Any]):
    """Shows lines on what is stderr at that time, unless the program has configured logging."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            self.stream = sys.stderr
            super().emit(record)


class _Line(logging.Formatter):
    _COLORS: Mapping[int, str] = {10: "\x1b[2m", 20: "\x1b[34m", 30: "\x1b[33m", 40: "\x1b[31m", 50: "\x1b[1;31m"}

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname:<8}"
        if sys.stderr.isatty() and (color := self._COLORS.get(record.levelno)):
            level = f"{color}{level}\x1b[0m"
        return f"{level} {super().format(record)}"


def _show() -> None:
    own = logging.getLogger(LIBRARY)
    if not any(isinstance(handler, _Stderr) for handler in own.handlers):
        handler = _Stderr()
        handler.setFormatter(_Line())
        own.addHandler(handler)


# --- the program's logger --------------------------------------------------------------------------------------------


def _to_logging(_: Any, __: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    """Hand a structlog event to `logging` as one readable line, so that any handler shows it well."""
    standard = {name: event.pop(name) for name in ("exc_info", "stack_info", "stacklevel") if name in event}
    text = str(event.pop("event", ""))
    line = " ".join([text, *(f"{name}={value!r}" for name, value in event.items())])
    standard.setdefault("stacklevel", 4)  # past structlog's own frames, to the line that logs
    return (line,), standard


def _program_logger() -> BoundLogger:
    import structlog

    target = logging.getLogger(PROGRAM)
    if target.level == logging.NOTSET:
        target.setLevel(logging.INFO)
    _show()
    return structlog.wrap_logger(
        target,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            _to_logging,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
    )


if not TYPE_CHECKING:

    def __getattr__(name):
        if name != "logger":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        made = globals()["logger"] = _program_logger()
        return made
