"""Bookkeeping: the registry of adapters and the slots of resident ones."""

from .info import BASE_NAME, AdapterInfo, check_name
from .registry import Registry
from .slots import BASE_SLOT, SlotTable

__all__ = ["BASE_NAME", "BASE_SLOT", "AdapterInfo", "Registry", "SlotTable", "check_name"]
