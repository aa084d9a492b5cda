"""The figures of a load as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .client import Outcome
from .figures import Figures

MOST_BARS = 24  # adapters that find room side by side


def draw(figures: Figures, outcomes: Sequence[Outcome], path: str | Path, *, title: str) -> None:
    """Write a PNG: how times are distributed over all requests, and what each adapter had.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    done = [outcome for outcome in outcomes if not outcome.error]
    figure = Figure(figsize=(12, 7), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(
        f"{title}\n{figures.all.requests} requests, {figures.all.failed} failed, {figures.requests_per_second:.2f} "
        f"requests/s, {figures.tokens_per_second:.1f} tokens/s"
    )
    times = (
        ("until the first token", [o.first_token for o in done if o.completion_tokens]),
        ("for each token after it", [o.per_token for o in done if o.per_token is not None]),
        ("until the end", [o.seconds for o in done]),
    )
    grid = figure.add_gridspec(2, 3)
    for k, (what, seconds) in enumerate(times):
        axes = figure.add_subplot(grid[0, k])
        ordered = sorted(seconds)
        axes.step(ordered, [100 * (place + 1) / len(ordered) for place in range(len(ordered))], where="post")
        axes.set(xlabel=f"seconds {what}", ylabel="% of requests", ylim=(0, 101))
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    _draw_adapters(figures, figure.add_subplot(grid[1, :]))
    figure.savefig(path, format="png", dpi=120)


def _draw_adapters(figures: Figures, axes: object) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    busiest = sorted(figures.adapters.items(), key=lambda item: -item[1].requests)[:MOST_BARS]
    places = range(len(busiest))
    failed = [share.failed for _, share in busiest]
    axes.bar(places, [share.requests - share.failed for _, share in busiest], label="answered", color="#4c72b0")
    axes.bar(places, failed, bottom=[s.requests - s.failed for _, s in busiest], label="failed", color="#c44e52")
    axes.set_ylabel("requests")
    axes.margins(y=0.2)  # room for the legend
    axes.set_xticks(places, [name for name, _ in busiest], rotation=30, ha="right")
    beside = axes.twinx()
    firsts = [(k, s.first_token) for k, (_, s) in enumerate(busiest) if s.first_token is not None]
    for share, marker in (("p50", "o"), ("p99", "^")):
        seconds = [getattr(spread, share) for _, spread in firsts]
        beside.plot([k for k, _ in firsts], seconds, marker, color="#333333", label=f"first token, {share}")
    beside.set_ylabel("seconds")
    beside.set_ylim(bottom=0)
    handles, labels = (
        a + b for a, b in zip(axes.get_legend_handles_labels(), beside.get_legend_handles_labels(), strict=True)
    )
    axes.legend(handles, labels, loc="upper right", ncols=4, fontsize="small")
