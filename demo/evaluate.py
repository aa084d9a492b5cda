"""Score the demo's adapters in four ways: ``python -m demo.evaluate``.

Every adapter answers unseen examples of its task alone, in one batch that the adapters share, and merged into 16-bit
weights; the bare base answers them too. The last three should agree: a row of a batch is what it is alone, and merging
changes roundings only. Decoding is greedy, on the base in NF4.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path

from adapter_hub import AdapterHub

from .answering import Question, answer_all
from .catalog import DEMO_ADAPTERS
from .tasks import Example, get_task
from .train.card import Card

WAYS = {"base": "base", "alone": "alone", "mixed": "mixed batch", "merged": "merged"}
NUM_EXAMPLES, SEED = 8, 1
BEGIN, END = "<!-- evaluate: begin -->", "<!-- evaluate: end -->"


@dataclass(frozen=True)
class Evaluation:
    """Answers to unseen examples.

    Args:
        num_examples: of each task.
        seed: they were drawn with.
        base: name of the base.
        answers: by way, by adapter, in the order of the examples.
    """

    num_examples: int
    seed: int
    base: str
    answers: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def examples(self, name: str) -> list[Example]:
        """The examples that an adapter answered."""
        return get_task(read_card(name).task).examples("held_out", self.num_examples, self.seed)

    def score(self, way: str, name: str) -> float:
        """The share of right answers."""
        task, answers = get_task(read_card(name).task), self.answers[way][name]
        return _share([task.score(each.answer, text) for each, text in zip(self.examples(name), answers, strict=True)])

    def same(self, way: str, name: str) -> float:
        """The share of answers that are, character for character, those of the adapter alone."""
        pairs = zip(self.answers["alone"][name], self.answers[way][name], strict=True)
        return _share([one == other for one, other in pairs])


def read_card(name: str) -> Card:
    """The card of one of the demo's adapters."""
    return Card.read(DEMO_ADAPTERS / name)


def evaluate(hub: AdapterHub, names: Sequence[str], ways: Sequence[str], found: Evaluation) -> Evaluation:
    """Answer in the given ways; what ``found`` has already is left as it is.

    Args:
        hub: with the adapters registered.
        names: of the adapters.
        ways: keys of ``WAYS``.
        found: what was measured before.
    """
    for way in ways:
        answers = found.answers.setdefault(way, {})
        left = [name for name in names if name not in answers]
        if way == "mixed":
            # A batch of few adapters would be another measurement: all of them answer, or none does.
            answers.update(_mixed(hub, names, found) if left else {})
            continue
        for name in left:
            answers[name] = _merged(hub, name, found) if way == "merged" else _alone(hub, way, name, found)
    return found


def table(found: Evaluation, names: Sequence[str]) -> str:
    """The scores as a Markdown table, those of the cards beside them."""
    unseen = {card.scores.num_unseen for name in names if (card := read_card(name)).scores is not None}
    measured = "/".join(map(str, sorted(unseen)))
    ways = [way for way in WAYS if way in found.answers]
    heads = ["task", "type", f"card, {measured} examples", *(WAYS[way] for way in ways)]
    again = [way for way in ("mixed", "merged") if {way, "alone"} <= found.answers.keys()]
    heads += [f"same words, {WAYS[way]}" for way in again]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for name in names:
        card = read_card(name)
        cells = [card.title, card.method, "" if card.scores is None else _percent(card.scores.adapter_score)]
        cells += [_percent(found.score(way, name)) for way in ways]
        lines.append(_row([*cells, *(_percent(found.same(way, name)) for way in again)]))
    means = [_percent(sum(found.score(way, name) for name in names) / len(names)) for way in ways]
    means += [_percent(sum(found.same(way, name) for name in names) / len(names)) for way in again]
    return "\n".join([*lines, _row(["**all**", "", "", *means])])


def write_between_marks(path: Path, text: str) -> None:
    """Replace what lies between the two marks of a Markdown file.

    Raises:
        ValueError: the file has no such marks.
    """
    page = path.read_text(encoding="utf-8")
    if BEGIN not in page or END not in page:
        raise ValueError(f"{path} has no marks {BEGIN} and {END}")
    head, _, rest = page.partition(BEGIN)
    path.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def _questions(name: str, adapter: str | None, found: Evaluation) -> list[Question]:
    new = get_task(read_card(name).task).max_new_tokens
    return [Question(example.prompt, adapter, new) for example in found.examples(name)]


def _alone(hub: AdapterHub, way: str, name: str, found: Evaluation) -> list[str]:
    questions = _questions(name, None if way == "base" else name, found)
    return [done.text for done in answer_all(hub, questions, f"{name}, {WAYS[way]}")]


def _mixed(hub: AdapterHub, names: Sequence[str], found: Evaluation) -> dict[str, list[str]]:
    """All adapters at once, one example of each after the other, so that every step serves many of them."""
    turns = zip_longest(*(_questions(name, name, found) for name in names))
    questions = [question for turn in turns for question in turn if question is not None]
    answers: dict[str, list[str]] = {name: [] for name in names}
    for question, done in zip(questions, answer_all(hub, questions, "all, mixed batch"), strict=True):
        answers[str(question.adapter)].append(done.text)
    return answers


def _merged(hub: AdapterHub, name: str, found: Evaluation) -> list[str]:
    """The adapter's own 16-bit weights, which must be what every token came of."""
    hub.merge(name)
    try:
        done = answer_all(hub, _questions(name, name, found), f"{name}, merged")
    finally:
        hub.unmerge(name)
    assert all(each.merged_tokens == each.completion_tokens for each in done), f"{name} did not run merged"
    return [each.text for each in done]


def _share(outcomes: Sequence[bool]) -> float:
    return sum(outcomes) / len(outcomes)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _read(path: Path | None, fresh: Evaluation) -> Evaluation:
    """What a file of before holds, if it is of the same examples and base."""
    if path is None or not path.exists():
        return fresh
    kept: Mapping[str, object] = json.loads(path.read_text(encoding="utf-8"))
    found = Evaluation(**kept)  # type: ignore[arg-type]
    same = (found.num_examples, found.seed, found.base) == (fresh.num_examples, fresh.seed, fresh.base)
    return found if same else fresh


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate, print the table, and keep the answers where that is asked for."""
    names = sorted(path.name for path in DEMO_ADAPTERS.iterdir() if path.is_dir())
    parser = argparse.ArgumentParser(prog="python -m demo.evaluate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"adapters; left out, all: {', '.join(names)}")
    parser.add_argument("--examples", type=int, default=NUM_EXAMPLES, help=f"of each task (default: {NUM_EXAMPLES})")
    parser.add_argument("--seed", type=int, default=SEED, help="any draws unseen examples; 1 is that of the cards")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS], help="default: all four")
    parser.add_argument("--json", type=Path, help="keep the answers here; those that it holds are not asked again")
    parser.add_argument("--write-readme", type=Path, metavar="FILE", help=f"put the table between {BEGIN} and {END}")
    args = parser.parse_args(arguments)
    if unknown := set(args.names) - set(names):
        parser.error(f"there is no adapter {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if args.examples < 1:
        parser.error("--examples must be 1 or more")
    chosen = args.names or names
    with AdapterHub.from_pretrained() as hub:
        for name in chosen:
            hub.register(name, DEMO_ADAPTERS / name)
        found = _read(args.json, Evaluation(args.examples, args.seed, hub.base.name))
        evaluate(hub, chosen, args.ways, found)
    if args.json is not None:
        args.json.write_text(json.dumps(asdict(found), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    made = table(found, chosen)
    if args.write_readme is not None:
        write_between_marks(args.write_readme, made)
    sys.stdout.write(made + "\n")


if __name__ == "__main__":
    main()
