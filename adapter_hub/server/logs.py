"""The server's log: one line a request, as text or as JSON, without anybody's text in it unless that is asked for."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, TextIO

from ..config import ServerSettings
from .drain import ALWAYS
from .exchange import Exchange, current

_log = logging.getLogger("adapter_hub.request")
_MAX_CHARACTERS = 200  # of what a client may make as long as it likes


def open_log(settings: ServerSettings, *, debug: bool = False, to: TextIO | None = None) -> None:
    """Write the log of this process to its standard error, or elsewhere, in the form of the settings."""
    handler = logging.StreamHandler(sys.stderr if to is None else to)
    handler.setFormatter(JsonLines() if settings.log_format == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("adapter_hub", "uvicorn"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
    # Its own lines on starting and stopping say less than the server's.
    logging.getLogger("uvicorn.error").setLevel(logging.DEBUG if debug else logging.ERROR)


def log_exchange(exchange: Exchange, *, with_prompts: bool = False, trace_id: str | None = None) -> None:
    """Write the line of an exchange that is over; those of probes show in a debugging log alone."""
    facts = facts_of(exchange)
    if trace_id is not None:
        facts["trace_id"] = trace_id
    if with_prompts and exchange.generations:
        row = exchange.generations[0].row
        facts["prompt"] = row.voice.tokenizer.decode(row.ids)
        facts["answers"] = [g.result().text for g in exchange.generations if g.error is None]
    level = logging.DEBUG if exchange.path in ALWAYS else logging.INFO
    _log.log(level, "%s", _sentence(facts), extra={"facts": facts})


def facts_of(exchange: Exchange) -> dict[str, Any]:
    """What there is to say of an exchange, without its texts; what does not apply is left out."""
    facts: dict[str, Any] = {
        "request_id": exchange.id,
        "key": exchange.caller,
        "method": _short(exchange.method),
        "route": exchange.route or _short(exchange.path),
        "model": None if exchange.model is None else _short(exchange.model),
        "status": exchange.status,
        "client_gone": exchange.is_gone or None,
        "error": exchange.error,
        "seconds": round(exchange.seconds, 6),
    }
    if exchange.generations:
        first = exchange.generations[0]
        done = [generation.result() for generation in exchange.generations if generation.error is None]
        facts["error"] = next((type(g.error).__name__ for g in exchange.generations if g.error), exchange.error)
        facts |= {
            "adapter": first.row.key,
            "prompt_tokens": exchange.prompt_tokens,
            "completion_tokens": sum(completion.completion_tokens for completion in done),
            "finish_reasons": [completion.finish_reason for completion in done],
        }
        times = [completion.timing for completion in done if completion.timing is not None]
        if times:
            facts["queued_seconds"] = round(max(timing.queued for timing in times), 6)
            facts["first_token_seconds"] = round(min(timing.first_token for timing in times), 6)
    return {name: value for name, value in facts.items() if value is not None}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the facts of a request."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        exchange = current()
        if exchange is not None:
            line["request_id"] = exchange.id
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """One line for people: time, level, message; a request's texts follow where they are wanted."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        exchange, facts = current(), getattr(record, "facts", None)
        about = f"[{exchange.id}] " if exchange is not None and facts is None else ""
        line = f"{_time(record)} {record.levelname} {about}{record.getMessage()}"
        if facts is not None and "prompt" in facts:
            line += f" prompt={facts['prompt']!r} answers={facts['answers']!r}"
        return line + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


def _sentence(facts: dict[str, Any]) -> str:
    words = [f"{facts['method']} {facts['route']} {facts.get('status', 'unanswered')} in {facts['seconds']:.3f} s"]
    words += [
        f"{name}={facts[name]}" for name in ("model", "adapter", "key", "request_id", "trace_id") if name in facts
    ]
    if "completion_tokens" in facts:
        words.append(f"tokens={facts['prompt_tokens']}+{facts['completion_tokens']}")
        words.append(f"finish={','.join(facts['finish_reasons']) or 'none'}")
    if "first_token_seconds" in facts:
        words.append(f"first_token={facts['first_token_seconds']:.3f}s queued={facts['queued_seconds']:.3f}s")
    words += [f"error={facts['error']}"] if "error" in facts else []
    words += ["client gone"] if "client_gone" in facts else []
    return " ".join(words)


def _short(text: str) -> str:
    """A client's word, on one line and not too long: it must not write lines of its own."""
    text = text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}..."
    return text if text.isprintable() else ascii(text)[1:-1]


def _time(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{record.msecs:03.0f}Z"
