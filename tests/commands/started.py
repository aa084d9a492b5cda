"""``adapter-hub serve`` as a process of its own."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 120


class Started:
    """A server that answers; ``lines`` are those of its log so far, as objects.

    Args:
        process: of it.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self._fresh: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self.line_with("message", "serving ")["message"].rpartition(" at ")[2].removesuffix("/v1")

    def line_with(self, name: str, beginning: str) -> dict[str, Any]:
        """The next line of the log in which a field begins like this."""
        while (line := self._fresh.get(timeout=START_SECONDS)) is not None:
            if str(line.get(name, "")).startswith(beginning):
                return line
        raise AssertionError(f"it ended with {self.process.wait()}: {self.lines}")

    def ended(self) -> int:
        """Its exit code, once it has ended and its log is read."""
        code = self.process.wait(START_SECONDS)
        self._reader.join(START_SECONDS)
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            line = json.loads(text) if text.startswith("{") else {"message": text}
            self.lines.append(line)
            self._fresh.put(line)
        self._fresh.put(None)


@contextmanager
def started(registry: Path, *argv: str) -> Iterator[Started]:
    """The server on a free port and a registry; killed at the block's end where it still runs."""
    command = [sys.executable, "-c", "import sys; from adapter_hub.cli import main; sys.exit(main())"]
    command += ["serve", "--port", "0", "--log-format", "json", "--registry", str(registry), *argv]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield Started(process)
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
