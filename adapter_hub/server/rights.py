"""Who may do what: callers by their API keys."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import AccessError


@dataclass(frozen=True)
class Caller:
    """Whoever sent a request.

    Args:
        name: of the key.
        scopes: what it is for: ``infer``, ``admin``.
    """

    name: str
    scopes: frozenset[str]

    def require(self, scope: str) -> None:
        """Raise ``AccessError`` unless the key is for this."""
        if scope not in self.scopes:
            raise AccessError(f"the API key {self.name!r} has not the scope {scope!r}.", hint="Use a key that has it.")

    def may_use(self, name: str) -> bool:
        """Whether an adapter of this name is there for the caller, to list and to use."""
        return True

    def hold_usable(self, model: str | None) -> None:
        """Raise ``NotRegistered``, as for what does not exist, unless every adapter in a reference or sum may be used.

        None is the base, which every caller may use.
        """


class Rights:
    """The callers of a server. Without any key, everybody on this machine may do everything."""

    def caller(self, authorization: str | None) -> Caller:
        """Who shows this ``Authorization`` header.

        Raises:
            Unauthorized: nobody that is known.
        """
        return Caller("local", frozenset({"infer", "admin"}))
