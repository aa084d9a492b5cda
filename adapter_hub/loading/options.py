"""What a user states of an adapter because its file does not: the alpha of bare tensors, say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import RequestError
from ..hookspecs import AdapterFiles

Options = Mapping[str, Any]


def check_options(options: Options) -> dict[str, Any]:
    """A copy of what was stated.

    Raises:
        RequestError: a name is none, or a value is nothing that a configuration in JSON can hold.
    """
    for name, value in options.items():
        try:
            whole = isinstance(name, str) and json.loads(json.dumps(value, allow_nan=False)) == value
        except (TypeError, ValueError, RecursionError):
            whole = False
        if not whole or value is None:
            raise RequestError(
                f"the option {name} has the value {value!r}, which no configuration holds.",
                hint="State a number, a text, true, false, or a table of those.",
            )
    return dict(options)


def state(files: AdapterFiles, options: Options) -> AdapterFiles:
    """The files with what was stated in their config, and a warning of what was left unstated.

    Raises:
        RequestError: the file itself states something else.
    """
    for name, value in options.items():
        own = files.config.get(name)
        if own is not None and own != value:
            raise RequestError(
                f"the option {name}={value!r} was stated, and the adapter's own file says {own!r}.",
                hint="Only what a file does not say can be stated: leave the option out.",
            )
    left = tuple(text for name, text in files.unstated.items() if name not in options)
    return replace(files, config={**files.config, **options}, warnings=files.warnings + left)


def identity(content: str, options: Options) -> str:
    """Digest of an adapter: that of its content, and with options of both, since they change what it does."""
    if not options:
        return content
    stated = json.dumps(dict(options), sort_keys=True)
    return hashlib.sha256(f"{content}\n{stated}\n".encode()).hexdigest()
