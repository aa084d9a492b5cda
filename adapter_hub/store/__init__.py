"""Bookkeeping: the registry of adapters, the slots of resident ones, and caches with budgets in bytes."""

from .cache import ByteCache, Reserve
from .entry import Entry
from .info import AdapterInfo
from .keys import ADMIN, INFER, KeyInfo, Keys
from .reference import BASE_NAME, Reference, check_alias, check_name, check_tags
from .registry import Registry
from .slots import BASE_SLOT, SlotTable
from .status import StatusFile, running
from .tiers import Counters, Tier, TierReport

__all__ = [
    "ADMIN",
    "BASE_NAME",
    "BASE_SLOT",
    "INFER",
    "AdapterInfo",
    "ByteCache",
    "Counters",
    "Entry",
    "KeyInfo",
    "Keys",
    "Reference",
    "Registry",
    "Reserve",
    "SlotTable",
    "StatusFile",
    "Tier",
    "TierReport",
    "check_alias",
    "check_name",
    "check_tags",
    "running",
]
