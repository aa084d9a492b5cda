"""What a hub does with merged weights."""

from __future__ import annotations

from collections.abc import Sequence

from .engine import Prompt
from .residents import Residents
from .runtime import BASE_DIGEST, SAMPLE_PROMPTS, MergeReport, compare


class Merging:
    """What a hub offers on merged weights; see ``AdapterHub``."""

    _residents: Residents

    def merge(self, name: str | None, *, pin: bool = False) -> MergeReport:
        """Fold an adapter into 16-bit weights of its own (float32 on a float32 base), beside the base's.

        Every batch that it has to itself runs them from now on, at the cost of a model in 16 bit. They are freed by
        ``unmerge`` and ``unload``, and when other merged weights need their bytes and were used later.

        Args:
            name: None is the base: its weights are dequantised, for batches without an adapter, and are the first to
                be freed.
            pin: do not free them for others.

        Raises:
            NoRoom: ``merged_bytes``, or the memory, is too small; the adapter is served as before.
            NotRegistered: there is none of this name.
        """
        residents = self._residents
        keys = residents.resolve([name])
        with residents.leased(keys) as (slot,):
            merged = residents.places.merged.merge(residents.places.merged.digest_of(slot), pin=pin)
            residents.places.tiers.tell()
            return compare(residents.base, name, slot, merged)

    def unmerge(self, name: str | None) -> None:
        """Free an adapter's merged weights (None: the base's); it is served beside the base again."""
        residents = self._residents
        digest = BASE_DIGEST if name is None else residents.reader.known(str(residents.resolve([name])[0])).digest
        residents.places.merged.unmerge(digest)
        residents.places.tiers.tell()

    def merge_report(self, name: str | None, prompts: Sequence[Prompt] | None = None) -> MergeReport:
        """Measure how an adapter's merged weights answer other than its factors beside the base do.

        Args:
            name: None is the base, dequantised.
            prompts: texts or chat messages; None takes a few short texts.

        Raises: as ``merge``, and ``RequestError`` for a prompt that cannot be read.
        """
        residents = self._residents
        keys = residents.resolve([name])
        with residents.leased(keys) as (slot,):
            merged, voice = residents.places.merged, residents.voice(keys[0])
            digest = merged.digest_of(slot)
            known = merged.has(digest)
            texts = [voice.encode(prompt) for prompt in (SAMPLE_PROMPTS if prompts is None else prompts)]
            try:
                with merged.holding(digest) as weights:
                    return compare(residents.base, name, slot, weights, texts)
            finally:
                if not known:
                    merged.unmerge(digest)
