"""Which cells a published number is about, and in what their protocol departs from the paper's."""

from __future__ import annotations

from bench.cell import Cell
from bench.claims.named import strays
from bench.claims.paper import BACKBONE, CARVED, LLM_ROWS, LR, TEST_ROWS, VERSIONS, Claim
from bench.experiment import profiles

TUNED_LR = "msl_tuned_lr"  # no loss of its own: MSL at another learning rate


def departures(cell: Cell, n: int, claim: Claim) -> tuple[str, ...]:
    """How a cell's protocol differs from the paper's, one phrase for each difference.

    Args:
        cell: our cell.
        n: its test rows.
        claim: the published number it is compared with.
    """
    llm = cell.backbone is not None and cell.decoder is not None
    rows = LLM_ROWS if llm else None
    found = {
        # without a language model, small is full: the same data in full, nothing else has a size
        f"scale {cell.scale}": cell.scale != "full"
        and not (cell.scale == "small" and cell.backbone is None),
        f"backbone {cell.backbone}": bool(cell.backbone)
        and BACKBONE not in str(cell.backbone).lower().replace("_", "-"),
        f"protocol {cell.protocol}": cell.protocol != "1",
        f"{_rows(cell.train_rows)} training rows, not {_rows(rows)}": cell.train_rows != rows,
        f"{n} test rows, not {TEST_ROWS[claim.dataset]}": n != TEST_ROWS[claim.dataset],
        "validation cut out of train": claim.dataset in CARVED and not cell.uncut,
        f"decoder {cell.decoder}": cell.decoder not in _released_decoders(cell),
    }
    said = [phrase for phrase, true in found.items() if true]
    tuned = {"lr"} if claim.loss == TUNED_LR else set()
    values = (phrase for phrase in profiles.departures(cell) if phrase.split()[0] not in tuned)
    return (*strays(claim, cell), *said, *values)


def _released_decoders(cell: Cell) -> set[str | None]:
    """The decoders that the released protocol takes for a loss; ``generate`` is the same as ``beam``."""
    own = profiles.decoders_of(profiles.PAPER, cell.method)(cell.loss)
    return {None, "beam", "generate", *(own or ())}


def _rows(cap: int | None) -> str:
    return "all" if cap is None else f"{cap:,}"


def matches(claim: Claim, cell: Cell) -> bool:
    """Whether a claim is about this cell; a claim without a loss is about any loss of its method.

    Datasets are compared by content: other files under the name of a published dataset do not count.

    Args:
        claim: the published number.
        cell: our cell.
    """
    if (cell.dataset, cell.method) != (claim.dataset, claim.method):
        return False
    if cell.data_version not in VERSIONS[cell.dataset]:
        return False
    # the authors' later figures were scored over valid tokens only, as the corrected profile scores
    loss, _, valid_scores = claim.loss.partition("+")
    if valid_scores and cell.profile != "corrected":
        return False
    if loss == TUNED_LR or (loss == "msl" and cell.loss == loss):
        other_rate = cell.config.get("lr", LR) != LR
        return cell.loss == "msl" and other_rate == (loss == TUNED_LR)
    return not loss or cell.loss == loss
