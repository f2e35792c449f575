"""Every choice of a rebuild, and the figures it is held against."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from bench.data.amazon.events import Repeats
from bench.data.amazon.titles import TitlePolicy
from bench.data.splits import Protocol
from bench.errors import ConfigError

ORDERS = ("appearance", "sorted")
KINDS = {int: "a whole number", bool: "true or false", str: "a word"}


@dataclass(frozen=True, kw_only=True)
class RebuildSwitches:
    """Every choice between raw reviews and windows.

    Attributes:
        core: reviews that each user and item must have, to a fixed point; 0 or 1 keeps everybody.
        window: longest window, target included.
        min_length: shortest window, target included.
        protocol: name of the split (:mod:`bench.data.splits`).
        title_required: drop reviews of items without a title, before the core.
        titles: ``keep`` or ``clean`` (:func:`bench.data.amazon.titles.usable_title`).
        repeats: ``keep``; ``exact`` drops copies of user, item and time; ``first`` or ``last`` keep one
            review of a user and an item.
        sample_items: keep the reviews of so many items, drawn before the core among those left by then.
            The paper's Books has 100,000; how they were drawn is not published.
        seed: of that draw alone (NumPy's RandomState, over items in order of first appearance).
        since, until: unix seconds; reviews before ``since``, or at or after ``until``, are dropped first.
        item_order, user_order: what ids 1.. follow: ``appearance`` in the file, or ``sorted`` names (by
            value if all are whole numbers). Ties in time go by id, so this decides a few border rows.
    """

    core: int = 5
    window: int = 11
    min_length: int = 2
    protocol: str = "global_time"
    title_required: bool = True
    titles: TitlePolicy = "keep"
    repeats: Repeats = "keep"
    sample_items: int | None = None
    seed: int = 42
    since: int | None = None
    until: int | None = None
    item_order: str = "appearance"
    user_order: str = "appearance"

    def __post_init__(self) -> None:
        allowed = {
            "titles": ("keep", "clean"),
            "repeats": ("keep", "exact", "first", "last"),
            "item_order": ORDERS,
            "user_order": ORDERS,
        }
        for name, choices in allowed.items():
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}; allowed: {', '.join(choices)}"
                )
        self._check_types()
        for name, least in (("core", 0), ("sample_items", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        if self.seed >= 2**32:
            raise ConfigError(f"seed must be below 2**32, got {self.seed}")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ConfigError(f"since={self.since} must lie before until={self.until}")
        self.cut()

    def _check_types(self) -> None:
        """Every value is of the type of its default; None stands for an optional number."""
        for field in fields(self):
            value, optional = getattr(self, field.name), field.default is None
            kind = int if optional else type(field.default)
            if type(value) is not kind and not (optional and value is None):
                hint = ", unix seconds" if field.name in ("since", "until") else ""
                raise ConfigError(f"{field.name} must be {KINDS[kind]}{hint}; got {value!r}")

    def cut(self) -> Protocol:
        """The split these switches name."""
        return Protocol(name=self.protocol, width=self.window, min_length=self.min_length)


PAPER = RebuildSwitches()


@dataclass(frozen=True)
class Statistics:
    """The figures of the paper's Table 4."""

    users: int
    items: int
    interactions: int

    @property
    def density_percent(self) -> float:
        """Share of the user-item matrix that is filled, in percent."""
        return 100 * self.interactions / (self.users * self.items)

    def differences(self, published: Statistics) -> tuple[str, ...]:
        """One sentence for each figure that is not the published one."""
        pairs = ((name, asdict(self)[name], asdict(published)[name]) for name in asdict(self))
        return tuple(
            f"{name}: {ours:,}, Table 4 has {theirs:,} ({ours - theirs:+,})"
            for name, ours, theirs in pairs
            if ours != theirs
        )


TABLE_4 = {
    "toy": Statistics(19124, 11758, 165247),
    "book": Statistics(16559, 6344, 151928),
    "clothing": Statistics(39230, 22948, 277534),
    "office": Statistics(4895, 2414, 53149),
}
