"""Running adapters: the adapted site, the bank of resident updates, the row map."""

from .bank import BASE_ROWS, AdapterBank
from .rowmap import RowMap

__all__ = ["BASE_ROWS", "AdapterBank", "RowMap"]
