"""From a request to the sequence that the paged batch runs."""

from __future__ import annotations

from ..runtime import last_occurrence
from .budgets import KEYED_TOKENS, PagedSequence, PageKey
from .requests import Generation
from .schedule import EngineRoom


def sequence_of(generation: Generation, room: EngineRoom) -> PagedSequence:
    """What is left to run of a request that has a slot: its prompt, and what it has generated already."""
    assert generation.slot is not None
    return PagedSequence(
        id=generation.id,
        ids=[*generation.row.ids, *generation.generated],
        slot=generation.slot,
        key=_page_key(generation.row.key, room),
        max_new_tokens=generation.sampling.max_new_tokens - len(generation.generated),
        stop_ids=generation.stop_ids,
        active_from=_active_from(generation, room.invocation(generation.slot)),
    )


def _page_key(key: str | None, room: EngineRoom) -> PageKey:
    """What pages are shared under: the digest of the adapter's content, nothing for the base."""
    if key is None:
        return ()
    digest = room.digest(key)
    return tuple(int(digest[8 * k : 8 * k + 8], 16) & 0x7FFFFFFF for k in range(KEYED_TOKENS))


def _active_from(generation: Generation, invocation: tuple[int, ...]) -> int:
    """Where a prompt invokes its adapter; beyond its end where it does not: the base answers it then."""
    if not invocation:
        return 0
    begin = last_occurrence(generation.row.ids, invocation)
    return len(generation.row.ids) + generation.sampling.max_new_tokens if begin is None else begin
