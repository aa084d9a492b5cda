"""Bookkeeping: the registry of adapters and the slots of resident ones."""

from .info import AdapterInfo
from .reference import BASE_NAME, Reference, check_alias, check_name, check_tags
from .registry import Registry
from .slots import BASE_SLOT, SlotTable

__all__ = [
    "BASE_NAME",
    "BASE_SLOT",
    "AdapterInfo",
    "Reference",
    "Registry",
    "SlotTable",
    "check_alias",
    "check_name",
    "check_tags",
]
