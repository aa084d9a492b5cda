"""Running adapters: the adapted site, the bank of resident updates, the row map."""

from .bank import AdapterBank
from .rowmap import RowMap, in_force

__all__ = ["AdapterBank", "RowMap", "in_force"]
