"""Running adapters: the adapted site, the bank of resident updates, the row map, merged weights, the host tier."""

from .bank import AdapterBank
from .comparison import SAMPLE_PROMPTS, MergeReport, compare
from .host import HostCopy, HostTier
from .invocations import last_occurrence
from .merged import BASE_DIGEST, MergedCache
from .rowmap import RowMap, in_force

__all__ = [
    "BASE_DIGEST",
    "SAMPLE_PROMPTS",
    "AdapterBank",
    "HostCopy",
    "HostTier",
    "MergeReport",
    "MergedCache",
    "RowMap",
    "compare",
    "in_force",
    "last_occurrence",
]
