"""Every error that adapter_hub raises on purpose: one tree, each class with an HTTP status and a way out.

AdapterHubError                      500
├── BaseModelError                   500   the base could not be had or is not usable
│   └── CannotBatch                  500   its architecture cannot be batched continuously
├── PluginError                      500   a plugin is broken; names it
├── SettingError                     400   a setting has a value it cannot have
├── RequestError                     400   one call asked for something that cannot be
│   ├── RowMapError                  400   rows and batch do not fit together
│   ├── NotRegistered                404
│   ├── AdapterInUse                 409
│   ├── NoRoom                       507   a budget, the slots or the memory itself are too small; has the numbers
│   └── PartialFailure               500   some rows of a batch failed; carries the others
├── AccessError                      403   the caller may not do this
│   ├── Unauthorized                 401   no API key, or none that is known
│   └── RateLimited                  429   a key's limit is reached; says when to try again
├── EngineError                      503   the engine could not finish a request
│   ├── Overloaded                   503   too many requests wait
│   ├── EngineStopped                503   it was closed or has failed as a whole
│   └── StepFailed                   500   the request's own forward fails, or has not enough memory
├── RegistryError                    500   the registry's file is not usable
└── AdapterError                     422   an artifact cannot be served; names file, tensor or field
    ├── SourceError                  502
    │   ├── SourceNotFound           404
    │   ├── SourceForbidden          403
    │   └── SourceUnreachable        503
    ├── FormatError                  422
    │   ├── UnknownFormat            422
    │   ├── CorruptFile              422
    │   └── UnsafeFile               422
    ├── UnknownVariant               422
    ├── UnsupportedFeature           422
    └── ProofError                   422
        ├── BaseMismatch             409
        ├── UnknownSite              422
        ├── ShapeMismatch            422
        ├── UnconsumedTensors        422
        └── NotFinite                422
"""

from __future__ import annotations

from typing import Any, ClassVar

MAX_CHARACTERS = 2000


class AdapterHubError(Exception):
    """The root of the tree.

    ``message`` is one sentence that says what is wrong and where; ``hint`` is one that says what to do. What
    they quote may come from a hostile file: control characters and broken Unicode are shown as escapes, and the
    middle of what is too long is left out.
    """

    status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = _printable(message)
        self.hint = _printable(hint)
        super().__init__(f"{self.message} {self.hint}".strip())


class BaseModelError(AdapterHubError):
    """The base model could not be fetched, loaded or read."""


class CannotBatch(BaseModelError):
    """The model's architecture cannot be batched continuously; transformers' own generate runs it."""


class PluginError(AdapterHubError):
    """A plugin failed to import, to register, or while it was called. Always names the plugin."""


class SettingError(AdapterHubError):
    """A setting has a value that it cannot have."""

    status = 400


class RequestError(AdapterHubError):
    """A call asked for something that cannot be done; nothing was changed by it."""

    status = 400


class RowMapError(RequestError):
    """The adapters given for a batch and the rows of that batch do not match."""


class NotRegistered(RequestError):
    """No adapter is registered under this name, number or alias."""

    status = 404


class AdapterInUse(RequestError):
    """A running forward pass, generation or ``rows`` block uses the adapter right now, or an alias stands for it."""

    status = 409


class NoRoom(RequestError):
    """Something needs a slot, or more bytes than its budget or the memory can give; what was there before still is."""

    status = 507


class PartialFailure(RequestError):
    """Some rows of a batch failed.

    ``completions`` has the others in their places and None for those that failed; ``errors`` has the reasons, by
    place.
    """

    status = 500

    def __init__(self, message: str, *, hint: str, completions: list[Any], errors: dict[int, AdapterHubError]) -> None:
        super().__init__(message, hint=hint)
        self.completions = completions
        self.errors = errors


class AccessError(AdapterHubError):
    """The caller of a server has no right to do this."""

    status = 403


class Unauthorized(AccessError):
    """The caller showed no API key, or none that is known."""

    status = 401


class RateLimited(AccessError):
    """A limit of the caller's key is reached; ``retry_after`` is in how many seconds to try again."""

    status = 429

    def __init__(self, message: str, *, hint: str, retry_after: float) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class EngineError(AdapterHubError):
    """The engine could not finish a request."""

    status = 503


class Overloaded(EngineError):
    """As many requests wait as may."""


class EngineStopped(EngineError):
    """The engine was closed, or has failed as a whole; the next request starts a new one."""


class StepFailed(EngineError):
    """The forward of this request fails even alone in its batch."""

    status = 500


class RegistryError(AdapterHubError):
    """The registry's file cannot be opened, read or written, or is of a newer version."""


class AdapterError(AdapterHubError):
    """An adapter artifact cannot be served."""

    status = 422


class SourceError(AdapterError):
    """An adapter could not be fetched from where it lives."""

    status = 502


class SourceNotFound(SourceError):
    """The folder, repository or revision does not exist."""

    status = 404


class SourceForbidden(SourceError):
    """The source exists but needs rights that the caller has not shown."""

    status = 403


class SourceUnreachable(SourceError):
    """The source did not answer."""

    status = 503


class FormatError(AdapterError):
    """The files of an adapter are not in order."""


class UnknownFormat(FormatError):
    """No installed format recognises the folder."""


class CorruptFile(FormatError):
    """A file is truncated or is not what its name says."""


class UnsafeFile(FormatError):
    """A file could run code when it is read (a pickle)."""


class UnknownVariant(AdapterError):
    """No installed variant recognises the adapter's configuration."""


class UnsupportedFeature(AdapterError):
    """The adapter uses something that the hub would compute wrongly, so it refuses it by name."""


class ProofError(AdapterError):
    """The adapter does not fit this base."""


class BaseMismatch(ProofError):
    """The adapter was trained on another base model or revision."""

    status = 409


class UnknownSite(ProofError):
    """The adapter changes a module that the base does not have."""


class ShapeMismatch(ProofError):
    """A tensor has another shape than its site asks for."""


class UnconsumedTensors(ProofError):
    """The file holds tensors that nobody knows how to use."""


class NotFinite(ProofError):
    """A tensor holds NaN or infinity."""


def _printable(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        text = f"{text[: MAX_CHARACTERS - 500]} ... {text[-500:]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
