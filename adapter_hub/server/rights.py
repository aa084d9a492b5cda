"""Who may do what: callers by their API keys."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from starlette.requests import Request

from ..config import ServerSettings
from ..errors import (
    AccessError,
    AdapterError,
    AdapterHubError,
    BaseModelError,
    NotRegistered,
    PartialFailure,
    PluginError,
    RegistryError,
    SettingError,
    Unauthorized,
)
from ..store import ADMIN, INFER, KeyInfo, Reference, Registry
from ..store.expression import Expression, is_expression

_log = logging.getLogger(__name__)
_ALL = ("*",)
# What these say names folders, files and sources.
_INNER = (AdapterError, RegistryError, BaseModelError, PluginError, SettingError)


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request.

    Args:
        name: of the key.
        scopes: what it is for: ``infer``, ``admin``.
        patterns: adapters that are there for it, as of file names.
        key: what limits it, if it is a key with limits.
        knows: whether an adapter of a name is registered.
    """

    name: str
    scopes: frozenset[str]
    patterns: tuple[str, ...] = _ALL
    key: KeyInfo | None = None
    knows: Callable[[str], bool] = field(default=bool, repr=False, compare=False)

    @property
    def sees_all(self) -> bool:
        """Whether every adapter is there for it."""
        return "*" in self.patterns

    def require(self, scope: str) -> None:
        """Raise ``AccessError`` unless the key is for this."""
        if scope not in self.scopes:
            raise AccessError(f"the API key {self.name!r} has not the scope {scope!r}.", hint="Use a key that has it.")

    def require_all(self, why: str) -> None:
        """Raise ``AccessError`` unless every adapter is there for the caller."""
        if not self.sees_all:
            raise AccessError(
                f"{why}, and the API key {self.name!r} is for some.", hint="Use a key that is for all adapters."
            )

    def may_use(self, name: str) -> bool:
        """Whether an adapter of this name is there for the caller, to list and to use."""
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def hold_usable(self, model: str | None) -> None:
        """Raise ``NotRegistered``, as for what does not exist, unless every adapter in a reference or sum may be used.

        None is the base, which every caller may use. What a name that is not the caller's stands for is not
        looked up: to ask for it takes the same steps, and gives the same words, whether it is registered or not.
        """
        if model is None or self.sees_all:
            return
        names = _names_in(model)
        for name in names:
            if not self.may_use(name):
                raise _unknown(name)
        for name in names:
            if not self.knows(name):
                raise _unknown(name)  # the registry's own words name others

    def hold_name(self, name: str) -> None:
        """Raise ``AccessError`` unless the caller may give an adapter this name."""
        if not self.may_use(name):
            raise AccessError(
                f"the API key {self.name!r} may not name an adapter {name!r}.",
                hint=f"It may use names like {', '.join(self.patterns)}.",
            )

    def told(self, error: AdapterHubError) -> AdapterHubError:
        """An error as this caller may read it; what is kept back is logged.

        Only admins read where files lie, and only who sees all adapters reads the names of others.
        """
        if isinstance(error, NotRegistered):
            return error if self.sees_all else NotRegistered(error.message)
        if ADMIN in self.scopes:
            return error
        if isinstance(error, PartialFailure) and error.errors:
            return self.told(next(iter(error.errors.values())))  # its own words quote this one
        if not isinstance(error, _INNER):
            return error
        _log.warning("%s: %s", type(error).__name__, " ".join(str(error).split()))
        return type(error)("the adapter cannot be served.", hint="The server's log says why.")


NOBODY = Caller("nobody", frozenset(), ())


class Rights:
    """The callers of a server.

    As long as there is no key, everybody on this machine may do everything, and nobody else anything. Once a key
    was made there is no way without one, even when it is revoked.

    Args:
        registry: where the keys are.
        settings: may name a key that may do everything.
    """

    def __init__(self, registry: Registry, settings: ServerSettings) -> None:
        self._keys = registry.keys
        self._knows = registry.knows
        self._master = _digest(settings.api_key) if settings.api_key else b""

    @property
    def has_keys(self) -> bool:
        """Whether callers need a key."""
        return bool(self._master) or self._keys.exist

    def hold_listenable(self, host: str) -> None:
        """Raise ``SettingError`` for an address beyond this machine, as long as there is no key."""
        if not self.has_keys and not is_loopback(host):
            raise SettingError(
                f"host is {host}, and without an API key everybody who reaches it could do everything.",
                hint="Make one with adapter-hub keys create NAME --scope infer --scope admin, set api_key, "
                "or listen on 127.0.0.1.",
            )

    def caller(
        self,
        authorization: str | None,
        *,
        client: str | None = None,
        host: str | None = None,
        origin: str | None = None,
    ) -> Caller:
        """Who shows this ``Authorization`` header.

        Args:
            authorization: the header.
            client: address that the request came from; None is this machine.
            host: its ``Host`` header, and ``origin`` that of the page that sent it: without keys they have to name
                this machine, or any page that its user looks at could send requests here, be it by a name that it
                lets point here.

        Raises:
            Unauthorized: nobody that is known.
            AccessError: without keys, it came from elsewhere.
        """
        if not self.has_keys:
            _hold_local(client, host, origin)
            return Caller("local", frozenset({INFER, ADMIN}))
        scheme, _, secret = (authorization or "").strip().partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            raise Unauthorized("this server asks for an API key.", hint="Send it as Authorization: Bearer ahk_...")
        if self._master and hmac.compare_digest(_digest(secret), self._master):
            return Caller("api_key", frozenset({INFER, ADMIN}))
        key = self._keys.find(secret)
        if key is None:
            raise Unauthorized("this API key is not known, or not in force.", hint="Ask whoever runs the server.")
        return Caller(key.name, frozenset(key.scopes), key.adapters, key, self._knows)


def user_of_page(rights: Rights, request: Request) -> str | None:
    """The user of a page that shows every adapter: a caller who may use them all; None is nobody who may see it."""
    headers = request.headers
    try:
        caller = rights.caller(
            headers.get("authorization"),
            client=None if request.client is None else request.client.host,
            host=headers.get("host"),
            origin=headers.get("origin"),
        )
    except AccessError:
        return None
    return caller.name if caller.sees_all and INFER in caller.scopes else None


def is_loopback(host: str) -> bool:
    """Whether an address or name, with or without brackets, is this machine's own."""
    bare = host.strip().removeprefix("[").removesuffix("]").rstrip(".").lower()
    if bare == "localhost" or bare.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def _hold_local(client: str | None, host: str | None, origin: str | None) -> None:
    hint = "Make an API key for it (adapter-hub keys create), or call it from its own machine as localhost."
    if client is not None and not is_loopback(client):
        raise AccessError("this server has no API key yet, so it serves its own machine alone.", hint=hint)
    for header, url in (("Host", None if host is None else f"//{host}"), ("Origin", origin)):
        if url is not None and not is_loopback(_host_of(url)):
            raise AccessError(f"the header {header} names another machine than this.", hint=hint)


def _digest(secret: str) -> bytes:
    """Of one length whatever is compared."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _names_in(model: str) -> Sequence[str]:
    if is_expression(model):
        return sorted(Expression.parse(model).names)
    return (Reference.parse(model).name,)


def _unknown(name: str) -> NotRegistered:
    return NotRegistered(f"no adapter is registered as {name!r}.")
