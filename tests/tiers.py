"""What a hub tells of its tiers."""

from __future__ import annotations


def tier_of(hub, name):
    """The report of one tier."""
    return next(tier for tier in hub.memory().tiers if tier.name == name)
