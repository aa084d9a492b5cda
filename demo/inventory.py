"""The HTML of what a hub holds: its adapters as a table, its tiers as bars, and an adapter's effect as a heat map."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from adapter_hub import AdapterHub, AdapterInfo
from adapter_hub.effects import SiteEffect
from adapter_hub.memory import MemoryReport
from adapter_hub.store import TierReport

from .markup import num_bytes

NO_ADAPTERS = '<p class="hub-quiet">No adapter is registered yet.</p>'
_TIER_MEANS = {
    "disk": "files of every registered adapter",
    "host": "read and proven, ready for a slot",
    "device": "in a slot, ready for a row",
    "merged": "16-bit weights with an adapter folded in",
    "merged, host": "merged weights that had to leave the GPU",
}
_LAYER = re.compile(r"(.*?\.)(\d+)\.(.+)")


@dataclass(frozen=True)
class Standing:
    """One adapter as it stands now: where it lies, and whether there are merged weights of it."""

    info: AdapterInfo
    tier: str
    is_merged: bool
    versions: int

    @classmethod
    def of(cls, hub: AdapterHub, info: AdapterInfo, merged: Mapping[str, int]) -> Standing:
        """Where an adapter stands; ``merged`` is that of ``hub.memory()``."""
        return cls(info, hub.tier(info.key), info.key in merged, len(hub.versions(info.name)))


def table(standings: Sequence[Standing], picked: str | None) -> str:
    """The registry, a row an adapter."""
    if not standings:
        return NO_ADAPTERS
    heads = ("name", "where", "variant", "size", "rank", "sites", "uses", "version")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    rows = "".join(_row(standing, standing.info.name == picked) for standing in standings)
    return (
        '<div class="hub-scroll" tabindex="0" role="region" aria-label="Registered adapters">'
        f'<table class="hub-table"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _row(standing: Standing, is_picked: bool) -> str:
    info = standing.info
    where = f'<span class="hub-chip hub-in-{standing.tier}">{standing.tier}</span>'
    where += '<span class="hub-chip hub-in-merged">merged</span>' if standing.is_merged else ""
    where += '<span class="hub-chip">pinned</span>' if info.pinned else ""
    ranks = "" if not info.ranks else "–".join(str(rank) for rank in dict.fromkeys((info.ranks[0], info.ranks[-1])))
    version = f"{info.version}" + (f" of {standing.versions}" if standing.versions > 1 else "")
    cells = (where, escape(info.variant), num_bytes(info.bytes), ranks, str(info.sites), str(info.uses), version)
    return (
        f'<tr{" class=hub-picked" if is_picked else ""}><th scope="row">{escape(info.name)}</th>'
        f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    )


def bars(report: MemoryReport) -> str:
    """Each tier with its bytes of its budget, and what was found there."""
    beside = report.base_weights + report.base_constants
    tiers = "".join(_bar(tier, beside) for tier in report.tiers)
    return (
        f'<div class="hub-tiers">{tiers}</div><p class="hub-quiet">The base takes {num_bytes(beside)}; a bar without a '
        "budget is drawn on that scale.</p>"
    )


def _bar(tier: TierReport, beside: int) -> str:
    limit = tier.limit or beside
    share = min(1.0, tier.used / limit) if limit else 0.0
    budget = f"of {num_bytes(tier.limit)}" if tier.limit else "no budget" if tier.limit is None else "budget 0"
    counts = [f"{tier.entries} held"]
    counts += [f"{tier.hits} hits, {tier.misses} misses"] if tier.hits or tier.misses else []
    counts += [f"{tier.evictions} evicted"] if tier.evictions else []
    kind, width = tier.name.split(",")[0], max(share, 0.004 if tier.used else 0)
    return (
        f'<div class="hub-tier"><b>{escape(tier.name)}</b>'
        f'<span class="hub-quiet">{_TIER_MEANS.get(tier.name, "")}</span>'
        f'<i><b class="hub-in-{kind}" style="width:{width:.1%}"></b></i>'
        f"<span>{num_bytes(tier.used)} <small>{budget}</small></span>"
        f'<span class="hub-quiet">{", ".join(counts)}</span></div>'
    )


def heat_map(name: str, effects: Sequence[SiteEffect], num_sites: int) -> str:
    """Which layers and sites an adapter changes, and by how much of their weight's norm."""
    shares = {effect.path: effect.share for effect in effects}
    known = {path: share for path, share in shares.items() if share is not None}
    if not known:
        return f'<p class="hub-quiet">{escape(name)} changes nothing that has a norm.</p>'
    most, largest = max(known, key=lambda path: known[path]), max(known.values())
    layers: dict[str, dict[int, SiteEffect]] = {}
    apart: list[SiteEffect] = []
    for effect in effects:
        found = _LAYER.fullmatch(effect.path)
        if found is None:
            apart.append(effect)
        else:
            layers.setdefault(found[3], {})[int(found[2])] = effect
    return (
        f'<div class="hub-heat"><p>{len(effects)} of {num_sites} sites are changed, the most '
        f"<code>{escape(most)}</code>: {percent(largest)} of its norm.</p>"
        f"{_grid(layers, largest)}{_apart(apart, largest)}{_legend(largest)}</div>"
    )


def _grid(layers: Mapping[str, Mapping[int, SiteEffect]], largest: float) -> str:
    if not layers:
        return ""
    count = 1 + max(layer for row in layers.values() for layer in row)
    marks = "".join(f"<th>{layer if layer % 5 == 0 else ''}</th>" for layer in range(count))
    rows = ""
    for kind, row in layers.items():
        cells = "".join(_cell(row.get(layer), largest) for layer in range(count))
        rows += f'<tr><th scope="row">{escape(kind)}</th>{cells}</tr>'
    return (
        '<div class="hub-scroll" tabindex="0" role="region" aria-label="Change by layer and site">'
        f'<table class="hub-grid"><tbody>{rows}</tbody><tfoot><tr><th>layer</th>{marks}</tr></tfoot></table></div>'
    )


def _cell(effect: SiteEffect | None, largest: float) -> str:
    if effect is None:
        return "<td></td>"
    share = effect.share
    if share is None:
        return f'<td class="hub-unknown" title="{escape(f"{effect.path}: {effect.reason}")}"></td>'
    # By the root: sites that differ by a hundred times are still told from those that are not changed.
    depth = (share / largest) ** 0.5 if largest else 0.0
    title = f"{effect.path}: {percent(share)} of its norm"
    return f'<td style="--hub-depth:{max(depth, 0.06):.0%}" title="{escape(title)}"></td>'


def _apart(effects: Sequence[SiteEffect], largest: float) -> str:
    """Sites outside of the layers: tables, the head, the last norm."""
    if not effects:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(effect.path)}</th>{_cell(effect, largest)}'
        f"<td class=hub-word>{escape(effect.reason) if effect.share is None else percent(effect.share)}</td></tr>"
        for effect in effects
    )
    return f'<table class="hub-grid">{rows}</table>'


def _legend(largest: float) -> str:
    steps = "".join(f'<i style="--hub-depth:{depth:.0%}"></i>' for depth in (0.06, 0.25, 0.5, 0.75, 1.0))
    return f'<p class="hub-legend"><span>0</span>{steps}<span>{percent(largest)} of ‖W‖</span></p>'


def percent(share: float) -> str:
    """A share with two digits that mean something."""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"
