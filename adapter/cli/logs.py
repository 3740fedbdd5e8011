"""Log lines of the command: text for people, JSON for collectors, nothing secret in either."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_HIDDEN = "***"
#: A field with one of these in its name, or of one of these names, is not logged.
_SECRET_PARTS = ("secret", "password", "passwd", "token", "authorization", "cookie", "api_key", "apikey")
_SECRET_NAMES = frozenset({"data", "payload", "body", "headers", "output"})
_IN_TEXT = (
    (re.compile(r"(\w+://[^\s:/@]*:)[^\s@/]+@"), rf"\1{_HIDDEN}@"),
    (re.compile(r"\b(tr_(?:dev|prod|stg|preview|pat)_)\w+"), rf"\1{_HIDDEN}"),
    (re.compile(r"\b(whsec_)[\w+/=-]+"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]{8,}"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?i)\b(password=)[^\s&'\"]+"), rf"\1{_HIDDEN}"),
)
#: These say at INFO what is of no use, or what is not to be said: full URLs.
_QUIET = ("httpx", "httpcore", "alembic", "uvicorn")


class _Stderr(logging.Handler):
    """Writes to whatever standard error is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - as every handler of the standard library does
            self.handleError(record)


def configure(
    style: Literal["text", "json"], level: str, *, role: str = "", boot_warnings: bool = True
) -> None:
    """Send every log line of this process to standard error.

    ``role`` tells processes on one screen apart. Without ``boot_warnings`` an adapter opens without a word.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(
            fmt="iso" if style == "json" else "%H:%M:%S", utc=style == "json", key="timestamp"
        ),
    ]
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                redact,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(style, role),
            ],
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    if not boot_warnings:
        handler.addFilter(_no_boot_warning)
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _Stderr)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _no_boot_warning(record: logging.LogRecord) -> bool:
    return record.name != "adapter" or record.levelno >= logging.ERROR


def _rendering(style: str, role: str) -> list[Processor]:
    def named(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if role and style == "json":
            event["role"] = role
        elif role:
            event["event"] = f"{role:<10} {event.get('event', '')}"
        return event

    if style == "json":
        rename = structlog.processors.EventRenamer("message")
        return [structlog.processors.format_exc_info, named, masked, rename, _json]
    colors = sys.stderr.isatty() and _wants_color()
    # The renderer's own way of showing exceptions prints local variables.
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    )
    return [structlog.processors.format_exc_info, named, masked, renderer]


def _wants_color() -> bool:
    from rich.console import Console

    return not Console(stderr=True).no_color


_json: Processor = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide the values of fields whose names say that they are secret, at any depth."""
    return cast("EventDict", _redacted(event))


def _redacted(value: Any) -> Any:
    if isinstance(value, MutableMapping):
        given = cast("Mapping[Any, Any]", value)
        return {key: _HIDDEN if is_secret(str(key)) else _redacted(each) for key, each in given.items()}
    return value


def is_secret(name: str) -> bool:
    """Whether a field of this name is not to be shown."""
    lowered = name.lower()
    return lowered in _SECRET_NAMES or any(part in lowered.replace("-", "_") for part in _SECRET_PARTS)


def masked(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide what looks like a secret in any text, a traceback's too."""
    return {key: mask(value) if isinstance(value, str) else value for key, value in event.items()}


def mask(text: str) -> str:
    """Return a text without passwords, keys and tokens."""
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text.replace("\x1b", "\\x1b")
