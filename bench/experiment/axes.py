"""The axes of a row: every loss, decoder and backbone that it stands for, and whether its method has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.errors import ConfigError
from bench.experiment.suite import PAPER_LOSSES, PAPER_METHODS, Scale, SuiteRow
from bench.method import Method, losses_of
from bench.registry import decoders, losses, methods


@dataclass(frozen=True)
class Axes:
    """One value for each axis of a method; None where the method has no such axis."""

    loss: str | None = None
    decoder: str | None = None
    backbone: str | None = None


def default_axes(method: type[Method], scale: Scale) -> Axes:
    """The axes of a row that gives no values for them.

    Args:
        method: its method.
        scale: names the usual backbone.
    """
    return Axes(
        loss=method.default_loss,
        decoder="beam" if method.decodes else None,
        backbone=scale.backbone if "pretrained" in method.tags else None,
    )


def axes_of(
    row: SuiteRow,
    scale: Scale,
    *,
    backbone: str | None = None,
    losses: Sequence[str] | None = None,
    decoders_of: Callable[[str | None], Sequence[str] | None] = lambda loss: None,
) -> Iterator[Axes]:
    """Every combination of the values a row gives its axes.

    Args:
        row: the row.
        scale: names the usual backbone.
        backbone: takes the place of the row's own where its method has one.
        losses: of the losses only these; None for all.
        decoders_of: by loss, the decoders of a row that names none; None for the method's default.
    """
    base = default_axes(methods.get(row.method), scale) if row.method in methods else Axes()
    asked = [backbone] if backbone and base.backbone else row.backbones
    for loss in _values(row.losses, base.loss):
        if losses is None or loss is None or loss in losses:
            usual = decoders_of(loss) if base.decoder and row.decoders is None else None
            for decoder in _values(row.decoders or usual, base.decoder):
                for model in _values(asked, base.backbone):
                    yield Axes(loss, decoder, model)


def _values(given: Sequence[str] | None, default: str | None) -> list[str | None]:
    return list(given) if given else [default]


def not_built(row: SuiteRow, axes: Axes) -> str | None:
    """Why a row of the paper cannot run for lack of code; None for any other row.

    Args:
        row: the row.
        axes: one combination of its axes.
    """
    if row.method not in methods and row.method in PAPER_METHODS:
        return f"not built yet: no method {row.method} is registered"
    if axes.loss in PAPER_LOSSES and axes.loss not in losses:
        return f"not built yet: no loss {axes.loss} is registered"
    return None


def check_fit(row: SuiteRow, axes: Axes) -> None:
    """Check that a row's method has the axes the row gives it, and that all names are registered.

    Args:
        row: the row.
        axes: one combination of its axes.

    Raises:
        UnknownName: nothing is called so.
        ConfigError: the method has no such axis, does not take that loss or is not decoded so.
    """
    method: type[Method] = methods.get(row.method)
    if axes.decoder is not None:
        decoders.get(axes.decoder)
        if not method.decodes:
            raise ConfigError(f"it has no decoder, but {axes.decoder!r} is asked for")
        if (why := method.not_decoded_by.get(axes.decoder)) is not None:
            raise ConfigError(f"it is not decoded by {axes.decoder!r}: {why}")
    if axes.loss is None or axes.loss in {method.default_loss, *method.untrained}:
        return
    if losses.get(axes.loss).kind not in method.takes:
        taken = ", ".join(losses_of(method)) or "none"
        raise ConfigError(f"it does not take the loss {axes.loss!r}; it takes {taken}")
