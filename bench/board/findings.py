"""What a board shows, in sentences made from its rows: nobody types or edits them.

"Certainly" and "shown" mean separated in the ranks of the table: over users, target titles and fits, Holm
over all pairs (docs/statistics.md). Only what a fixed list of questions asks is told, whatever the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from bench.board.leaderboard import Leaderboard, Line
from bench.board.section import Section, runs
from bench.cell import HEADLINE
from bench.results.badges import CLAMPED
from bench.results.table_key import names
from bench.significance.intervals import ALPHA

FEW = 0.5  # a share of three titles that a reader has to know of
MASKED, UNMASKED = ("msl", "msl_ats"), "lml"  # the question of the paper


@dataclass(frozen=True)
class Sentence:
    """One finding.

    Attributes:
        head: what is found.
        text: the numbers behind it.
        command: what to type to see them.
    """

    head: str
    text: str
    command: str


@dataclass(frozen=True, eq=False)
class Pair:
    """Two lines with numbers of one table.

    Attributes:
        board: the table.
        name: of its dataset.
        first, second: places among its scored lines.
    """

    board: Leaderboard
    name: str
    first: int
    second: int

    @property
    def lines(self) -> tuple[Line, Line]:
        """The two lines."""
        return self.board.scored[self.first], self.board.scored[self.second]

    @property
    def p(self) -> float:
        """Of their difference, Holm over all pairs of the table."""
        assert self.board.numbers is not None, "scored lines have numbers"
        return float(self.board.numbers.ranks.p_MM[self.first, self.second])

    @property
    def gap(self) -> float:
        """First less second."""
        first, second = self.lines
        return (first.mean or 0.0) - (second.mean or 0.0)

    @property
    def ahead(self) -> bool:
        """Whether the first is certainly better."""
        return self.gap > 0 and self.p < ALPHA

    @property
    def behind(self) -> bool:
        """Whether the first is certainly worse."""
        return self.gap < 0 and self.p < ALPHA

    @property
    def numbers(self) -> str:
        """Both lines with their means, and p."""
        first, second = self.lines
        return (
            f"{first.entry.label} {first.mean:.4f}, {second.entry.label} {second.mean:.4f} "
            f"({_p(self.p)})"
        )

    @property
    def command(self) -> str:
        """What compares the two."""
        first, second = (line.entry.done[0].cell.key for line in self.lines)
        return f"python -m bench compare {first} {second}"


def findings(section: Section) -> list[Sentence]:
    """The sentences of one board, in a fixed order.

    Args:
        section: the board.
    """
    name = names(board.key for board in section.leaderboards)
    boards = [(name[board.key], board) for board in section.leaderboards if board.scored]
    found = [sentence for d, board in boards for sentence in _against_floors(d, board)]
    found += _losses(boards)
    for family, words in (("llm", "language-model line"), ("enhanced", "LLM-enhanced line")):
        found += _families(boards, family, words)
    return [*found, *_cold(boards), *_paper(boards), *_clamped(boards)]


def summary(section: Section) -> str:
    """What a board is made of, in a sentence: datasets, lines, runs and language models."""
    scored = [line for board in section.leaderboards for line in board.scored]
    total = sum(runs(board) for board in section.leaderboards)
    models = Counter(line.entry.cell.backbone for line in scored if line.entry.cell.backbone)
    told = ", ".join(f"{name} ({n} lines)" for name, n in sorted(models.items()))
    return (
        f"{len(section.leaderboards)} datasets, {len(scored)} lines with numbers, {total} finished runs; "
        f"language models: {told or 'none'}."
    )


def _against_floors(name: str, board: Leaderboard) -> Iterator[Sentence]:
    """Whether training beats what needs none."""
    floors = [m for m, line in enumerate(board.scored) if line.floor]
    trained = [m for m, line in enumerate(board.scored) if not line.floor]
    if not floors or not trained:
        return
    best = Pair(board, name, floors[0], trained[0])
    pairs = [Pair(board, name, floors[0], m) for m in trained]
    beaten, many = sum(pair.ahead for pair in pairs), len(trained)
    if best.behind:
        head = f"On {name} training beats every floor"
    elif beaten == many:
        head = f"On {name} a floor, without any training, beats every trained line"
    elif beaten:
        head = f"On {name} a floor beats {beaten} of {many} trained lines, not the best of them"
    else:
        head = f"On {name} no trained line is shown to differ from the best floor"
    yield Sentence(head, f"{best.numbers}{_hangs(best)}.", best.command)


def _hangs(pair: Pair) -> str:
    """Which of two lines stands on few titles, in words."""
    numbers = pair.board.numbers
    if numbers is None or not len(numbers.stands.top3_M):
        return ""
    told = [
        f"three titles make {100 * share:.0f} % of what {line.entry.label} gains"
        for line, m in zip(pair.lines, (pair.first, pair.second), strict=True)
        if (share := float(numbers.stands.top3_M[m])) >= FEW
    ]
    return "; " + ", ".join(told) if told else ""


def _losses(boards: Iterable[tuple[str, Leaderboard]]) -> Iterator[Sentence]:
    """Masked against unmasked losses, all else equal; then every pair of losses."""
    pairs = [pair for name, board in boards for pair in _loss_pairs(name, board)]
    masked = [
        pair if _loss(pair)[0] in MASKED else Pair(pair.board, pair.name, pair.second, pair.first)
        for pair in pairs
        if UNMASKED in _loss(pair) and set(_loss(pair)) & set(MASKED)
    ]
    if masked:
        ahead, behind = sum(p.ahead for p in masked), sum(p.behind for p in masked)
        if not ahead and not behind:
            where = "the one pair" if len(masked) == 1 else f"all {len(masked)} pairs"
            head = f"MSL over LML is undecided in {where}"
        else:
            head = f"MSL is ahead of LML in {ahead} of {len(masked)} pairs, behind in {behind}"
        yield _largest(head, masked)
    if pairs:
        parted = sum(p.ahead or p.behind for p in pairs)
        yield _largest(
            f"The loss alone moves {parted or 'none'} of {len(pairs)} pairs for certain", pairs
        )


def _loss_pairs(name: str, board: Leaderboard) -> Iterator[Pair]:
    """Pairs of lines of one table that differ in the loss alone."""

    def all_but_loss(m: int) -> str:
        cell = board.scored[m].entry.cell
        config = {k: v for k, v in cell.config.items() if k != "loss_options"}
        return replace(cell, loss=None, config=config, seed=0).slot

    same: dict[str, list[int]] = {}
    for m, line in enumerate(board.scored):
        if line.entry.cell.loss:
            same.setdefault(all_but_loss(m), []).append(m)
    for places in same.values():
        for first, second in combinations(places, 2):
            pair = Pair(board, name, first, second)
            if len(set(_loss(pair))) == 2:
                yield pair


def _loss(pair: Pair) -> tuple[str, str]:
    first, second = (line.entry.cell.loss or "" for line in pair.lines)
    return first, second


def _largest(head: str, pairs: Sequence[Pair]) -> Sentence:
    """A sentence with the numbers of the pair that is furthest apart."""
    far = max(pairs, key=lambda pair: abs(pair.gap))
    return Sentence(head, f"Furthest apart on {far.name}: {far.numbers}{_hangs(far)}.", far.command)


def _families(
    boards: Iterable[tuple[str, Leaderboard]], family: str, words: str
) -> Iterator[Sentence]:
    """The best line of a family against the best traditional one, on every dataset that has both."""
    pairs = []
    for name, board in boards:
        families = [line.entry.family for line in board.scored]
        if family in families and "traditional" in families:
            first, second = families.index(family), families.index("traditional")
            pairs.append(Pair(board, name, first, second))
    if not pairs:
        return
    words_of = {
        "ahead on": [pair.name for pair in pairs if pair.ahead],
        "behind on": [pair.name for pair in pairs if pair.behind],
        "undecided on": [pair.name for pair in pairs if not pair.ahead and not pair.behind],
    }
    told = "; ".join(f"{way} {', '.join(where)}" for way, where in words_of.items() if where)
    head = f"The best {words} against the best traditional one: {told}"
    numbers = "; ".join(f"{p.name}: {p.numbers}" for p in pairs)
    yield Sentence(head, f"{numbers}.", max(pairs, key=lambda pair: abs(pair.gap)).command)


def _cold(boards: Sequence[tuple[str, Leaderboard]]) -> Iterator[Sentence]:
    """How many targets no model of ids can name, and who does best on them."""
    told: list[tuple[float, str, str]] = []
    for name, board in boards:
        lines = [(line.entry.mean(HEADLINE, "cold") or 0.0, line) for line in board.scored]
        best, line = max(lines, key=lambda pair: pair[0])
        if board.cold_share and best:
            where = f"{name} {100 * board.cold_share:.0f} %"
            told.append(
                (board.cold_share, name, f"{where} (best there: {line.entry.label} {best:.4f})")
            )
    if told:
        share, name, _ = max(told)
        yield Sentence(
            f"Up to {100 * share:.0f} % of the test targets never occur in training",
            f"A model that only knows ids cannot name them: {'; '.join(text for *_, text in told)}.",
            f"python -m bench data audit {name.partition('@')[0]}",
        )


def _paper(boards: Iterable[tuple[str, Leaderboard]]) -> Iterator[Sentence]:
    """What became of the published numbers that lines of this board speak to."""
    words = Counter(
        line.verdict.word for _, board in boards for line in board.scored if line.verdict
    )
    if words:
        told = ", ".join(f"{n} {word}" for word, n in words.most_common())
        yield Sentence(
            f"{words['reproduced'] or 'None'} of {words.total()} comparisons with the paper "
            f"{'is' if words['reproduced'] < 2 else 'are'} called reproduced",
            f"{told[:1].upper()}{told[1:]}.",
            "python -m bench claims",
        )


def _clamped(boards: Iterable[tuple[str, Leaderboard]]) -> Iterator[Sentence]:
    """Lines whose adaptive temperature never adapted."""
    adaptive = [
        line.entry
        for _, board in boards
        for line in board.scored
        if any(row.facts.get("ats_updates") for row in line.entry.done)
    ]
    stuck = [entry for entry in adaptive if CLAMPED in entry.badges]
    if stuck:
        yield Sentence(
            f"The adaptive temperature never adapted in {len(stuck)} of {len(adaptive)} lines that have one",
            f"It stood at its clamp in all steps, so these are MSL at a fixed temperature, for example "
            f"{stuck[0].label}.",
            f"python -m bench show {stuck[0].done[0].cell.key}",
        )


def _p(p: float) -> str:
    return f"p {p:.2g}" if p >= 1e-4 else "p < 0.0001"
