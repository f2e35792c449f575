"""The page docs/models.md: totals, and a table with a line for each family of language models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from llmrec.support.matrix import EXACT, FALLBACK, REFUSED, UNTRIED, WRONG, Line, is_right
from llmrec.support.parts import PARTS
from llmrec.support.probe import TOLERANCE, Result

PAGE = """# Which language models are right here

A layout of this suite (a shared opening, rows packed for training, the search in the title trie,
several answers behind one prompt) gives the numbers of the model's own forward pass, or it is not
used. Before a cell trains or decodes, a small copy of its model's architecture (every kind of layer
once, small widths, random weights, windows short enough to be crossed if texts can cross them) runs
two prompts and five titles through the model's own `forward(input_ids)` and through each layout
that the cell asks for, in float32. Log-probabilities and gradients must agree to {tolerance}; what
is wrong is off by .1 and more. Where they do not, an equal but slower layout takes its place, or
the cell is refused with a sentence that says what works. The row's facts `layouts` and
`layouts_difference` say what was used and the largest difference found.

`python -m bench doctor --backbone NAME` prints the line of one model; it reads its configuration,
not its weights.

Below is the line of every family of causal language models in transformers {version}, from its
default configuration (as a decoder), made by `python -m llmrec.support`. Of {tried} families and
variants: {totals}. The largest difference of a part that counts as right is {worst}. Each line was
checked a second time, with other weights and longer prompts, on the parts that count as right; a
part that failed there would make the line *wrong*.

{table}

*body*: prompts padded on the left. *shared opening*: the words that all prompts begin with,
computed once. *packed training*: answers behind their prompts, padded on the right. *tree search*:
the decoders `beam` and `exact`. *preference*: all answers of an S-DPO row behind one prompt.
*rows end to end*: the layout for a GPU, all training rows in one row of tokens under a mask, with
one answer each and with several.
*generate*: the decoder `generate`, transformers' own search.

{untried} more could not be tried, as no small model can be made of their default configuration; a
cell with such a backbone is refused:

{list}
"""


def markdown(lines: Sequence[Line], version: str) -> str:
    """The page with the totals and the table.

    Args:
        lines: one a family.
        version: of transformers.
    """
    count = Counter(made.outcome for made in lines)
    tried = [made for made in lines if made.outcome != UNTRIED]
    worst = max(
        (
            v
            for made in tried
            for v in made.results.values()
            if is_right(v) and isinstance(v, float)
        ),
        default=0.0,
    )
    totals = ", ".join(f"{kind} {count[kind]}" for kind in (EXACT, FALLBACK, REFUSED, WRONG))
    rows = [_row([made.name, *_cells(made), _words(made)]) for made in tried]
    untried = [f"- `{made.name}`: {made.said}" for made in lines if made.outcome == UNTRIED]
    head = ["family", *PARTS, "outcome"]
    return PAGE.format(
        version=version,
        tried=len(tried),
        totals=totals,
        worst=f"{worst:.0e}",
        tolerance=f"{TOLERANCE:g}",
        untried=len(untried),
        table="\n".join([_row(head), _row(["---"] * len(head)), *rows]),
        list="\n".join(untried),
    )


def _cells(made: Line) -> list[str]:
    return [_cell(made.results.get(part, "")) for part in PARTS]


def _words(made: Line) -> str:
    return f"{made.outcome}: {made.said}" if made.said else made.outcome


def _cell(found: Result) -> str:
    if isinstance(found, str):
        return "fails" if found else ""
    return "right" if is_right(found) else f"off by {found:.1g}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
