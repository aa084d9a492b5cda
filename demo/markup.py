"""The page's own HTML, as tabs share it. All text that anybody wrote (user, model, adapter's author) is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from adapter_hub.base import BaseReport

from .asking import Answer, Comparison
from .catalog import Choice
from .conversation import Pace, Swap, Turn
from .difference import Piece, word_differences
from .train.card import Scores

EMPTY_LOG = (
    '<p class="hub-empty"><b>Pick the base or an adapter, then ask.</b> You may switch at any time: '
    "the conversation goes on, and each answer says who gave it, how long the swap took and how fast it came.</p>"
)
EMPTY_COMPARISON = (
    '<p class="hub-quiet">The base and each adapter that you tick answer the same prompt, as rows of one batch. Words '
    "that differ from the base's are marked.</p>"
)
_LINES = re.compile(r"(^\s+|\s+$|[^\S\n]*\n\s*)")
_TIERS = {"device": "on the device", "host": "from host memory", "disk": "from disk"}


def header(report: BaseReport, notices: Iterable[str]) -> str:
    """The page's head: what this is, the facts of the base, and what there is to say about them."""
    bits = "not quantised" if report.bits_per_weight is None else f"{report.bits_per_weight:.2f}"
    facts = (
        ("base", report.name),
        ("bits per weight", bits),
        ("weights", num_bytes(report.weight_bytes + report.constant_bytes)),
        ("parameters", f"{report.parameters / 1e6:,.0f} M"),
        ("device", f"{report.device}, {report.compute_dtype}"),
    )
    return (
        '<header class="hub-header"><div class="hub-brand"><h1>adapter_hub</h1>'
        "<p>One frozen base, many adapters, each request with its own.</p></div>"
        f"{_facts(facts)}</header>{''.join(notice(text) for text in notices)}"
    )


def notice(text: str) -> str:
    """A sentence that the user should not miss."""
    return f'<p class="hub-notice" role="alert">{escape(text)}</p>'


def card(choice: Choice) -> str:
    """What one choice is: its purpose, its measured score beside the base's, and its facts."""
    parts = [f'<section class="hub-card"><h2>{badge(choice.name)} {escape(choice.title)}</h2>']
    parts.append(f"<p>{escape(choice.description)}</p>")
    if choice.card is not None and choice.card.scores is not None:
        parts.append(_scores(choice.card.scores))
    info = choice.info
    if info is not None:
        method = info.variant if choice.card is None else choice.card.method
        facts = [("variant", method)]
        if info.ranks:
            facts.append(("rank", _span(info.ranks)))
        facts += [("sites", str(info.sites)), ("size", num_bytes(info.bytes))]
        if choice.card is not None:
            facts.append(("trained", f"{choice.card.num_steps} steps, {choice.card.training_seconds / 60:.0f} min"))
        parts.append(_facts(facts))
        parts += [notice(warning) for warning in info.warnings]
    return "".join(parts) + "</section>"


def badge(adapter: str | None) -> str:
    """Who answers, as a small label."""
    if adapter is None:
        return '<span class="hub-badge">base</span>'
    return f'<span class="hub-badge hub-adapter">{escape(adapter)}</span>'


def log(turns: Sequence[Turn]) -> str:
    """The conversation, each answer with the quiet line of what it cost."""
    if not turns:
        return EMPTY_LOG
    return f'<div class="hub-turns" role="log">{"".join(map(_turn, turns))}</div>'


def busy(text: str) -> str:
    """A sentence on what is going on."""
    return f'<p class="hub-quiet hub-busy" role="status">{escape(text)}</p>'


def comparison(result: Comparison) -> str:
    """Answers side by side, the first of them the one that the others are held against, with differing words marked."""
    first, *others = result.answers
    left, rights = word_differences(first.text, [answer.text for answer in others])
    sides = [_side(first, left), *(_side(answer, pieces) for answer, pieces in zip(others, rights, strict=True))]
    differ = not all(piece.same for pieces in (left, *rights) for piece in pieces)
    verdict = "Marked words differ." if differ else "All answers are the same, word for word."
    tokens = sum(answer.completion.completion_tokens for answer in result.answers if answer.completion is not None)
    return (
        f'<div class="hub-compare">{"".join(sides)}</div><p class="hub-quiet">{verdict} One greedy batch of '
        f"{len(sides)} rows: {tokens} tokens in {duration(result.seconds)}.</p>"
    )


def ladder(result: Comparison, labels: Sequence[str]) -> str:
    """Answers below each other, each under its label: steps on the way from one adapter to another."""
    rows = [
        f'<div class="hub-step"><span class="hub-step-at">{escape(label)}</span>{_said(answer)}</div>'
        for label, answer in zip(labels, result.answers, strict=True)
    ]
    return (
        f'<div class="hub-ladder">{"".join(rows)}</div>'
        f'<p class="hub-quiet">One greedy batch of {len(rows)} rows in {duration(result.seconds)}.</p>'
    )


def reference(text: str | None) -> str:
    """How a request names what answers."""
    return "" if text is None else f'<p class="hub-quiet">As a request names it: <code>{escape(text)}</code></p>'


def duration(seconds: float) -> str:
    """A time with a unit that suits it."""
    if seconds < 999.5e-6:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def num_bytes(count: int) -> str:
    """A size in decimal units."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


def _turn(turn: Turn) -> str:
    text = escape(turn.answer.rstrip())
    if not turn.finished:
        text += '<span class="hub-caret" aria-label="answering"></span>'
    elif not turn.answer and not turn.error:
        text = '<span class="hub-quiet">(an empty answer)</span>'
    error = notice(turn.error) if turn.error else ""
    said = f'<div class="hub-text">{text}</div>' if text else ""
    return (
        f'<article class="hub-turn"><div class="hub-prompt">{escape(turn.prompt)}</div>'
        f'<div class="hub-answer">{badge(turn.adapter)}{said}{error}{_cost(turn)}</div></article>'
    )


def _cost(turn: Turn) -> str:
    if turn.pace is None:
        return ""
    parts = [*_swap(turn.adapter, turn.swap), f"first token after {duration(turn.pace.first_token_seconds)}"]
    if turn.pace.tokens_per_second is not None:
        parts.append(f"{turn.pace.tokens_per_second:.1f} tokens/s")
    if turn.pace.tokens is not None:
        parts.append(f"{turn.pace.tokens} token{'' if turn.pace.tokens == 1 else 's'}")
    parts += _path(turn.adapter, turn.pace)
    if turn.stopped:
        parts.append("stopped")
    return f'<p class="hub-cost">{"".join(f"<span>{part}</span>" for part in parts)}</p>'


def _swap(adapter: str | None, swap: Swap | None) -> list[str]:
    if adapter is None or swap is None:
        return ["base: nothing to swap"]
    verb = "swapped" if swap.tier == "device" else "loaded"
    return [f"{escape(adapter)}: {verb} in {duration(swap.seconds)}", f"tier hit: {_TIERS[swap.tier]}"]


def _path(adapter: str | None, pace: Pace) -> list[str]:
    """Which weights gave the answer."""
    if pace.merged_tokens is None:
        return []
    unmerged, merged = ("4-bit base", "dequantised base") if adapter is None else ("factors", "merged weights")
    if pace.merged_tokens in (0, pace.tokens):
        return [f"path: {merged if pace.merged_tokens else unmerged}"]
    return [f"path: {merged} for {pace.merged_tokens} of {pace.tokens} tokens, else {unmerged}"]


def _side(answer: Answer, pieces: Sequence[Piece]) -> str:
    kind = "hub-of-base" if answer.adapter is None else "hub-of-adapter"
    text = "".join(escape(p.text) if p.same else _marked(p.text) for p in pieces)
    return f'<div class="hub-side {kind}">{badge(answer.adapter)}{_said(answer, text)}</div>'


def _said(answer: Answer, html: str | None = None) -> str:
    """An answer's text, as it is or as ``html`` says it, or why there is none."""
    if answer.error:
        return notice(answer.error)
    text = escape(answer.text) if html is None else html
    empty = '<span class="hub-quiet">(an empty answer)</span>'
    return f'<div class="hub-text">{text or empty}</div>'


def _marked(text: str) -> str:
    """Marks the words of a piece, line by line, not the white space around them."""
    parts = _LINES.split(text)
    return "".join(escape(part) if not part.strip() else f"<mark>{escape(part)}</mark>" for part in parts if part)


def _scores(scores: Scores) -> str:
    rows = [("exact match", scores.base_score, scores.adapter_score)]
    rows += [(name, base, adapter) for name, (base, adapter) in scores.further.items()]
    bars = "".join(
        f"<h3>{escape(name)}</h3>{_bar('base', '', base)}{_bar('adapter', 'hub-adapter', adapter)}"
        for name, base, adapter in rows
    )
    return f'<div class="hub-scores">{bars}<p class="hub-quiet">on {scores.num_unseen} unseen examples</p></div>'


def _bar(who: str, kind: str, share: float) -> str:
    percent = f"{share:.1%}"
    return (
        f'<div class="hub-bar {kind}"><span>{who}</span><i><b style="width:{percent}"></b></i>'
        f"<span>{percent}</span></div>"
    )


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<div><dt>{escape(term)}</dt><dd>{escape(value)}</dd></div>" for term, value in facts)
    return f'<dl class="hub-facts">{rows}</dl>'


def _span(ranks: Sequence[int]) -> str:
    return str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
