"""Bookkeeping: the registry of adapters and the slots of resident ones."""

from .info import AdapterInfo
from .registry import Registry
from .slots import BASE_SLOT, SlotTable

__all__ = ["BASE_SLOT", "AdapterInfo", "Registry", "SlotTable"]
