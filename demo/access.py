"""What the users of a page may do: it has no login, so that depends on who can reach it."""

from __future__ import annotations

import ipaddress
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

LOCAL_NAMES = ("localhost", "localhost.")


def _scratch() -> Path:
    return Path(tempfile.gettempdir()) / "adapter-hub-uploads"


@dataclass(frozen=True)
class Access:
    """Rights of everybody who opens the page.

    Args:
        controls: whether they may change what the hub holds: add adapters, load, unload, pin, merge, roll back.
        paths: whether an adapter may be added by its path on this machine, and not only uploaded or from the Hub.
            Only for a page that nobody else can reach.
        uploads: where uploaded adapters are kept, a folder each.
    """

    controls: bool = False
    paths: bool = False
    uploads: Path = field(default_factory=_scratch)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone."""
    if host.lower() in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
