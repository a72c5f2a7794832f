"""The rows of the mini benchmark, its budget, and the learning rates that a row is run at.

The name of a set tells its round:

- "tabletop": the first round, with every method of that time, scored on test splits that were seen since;
- "design/tabletop": the same training and validation videos without a test split, for new rows and for rates
  that the first round did not reach;
- "fresh/tabletop": a set rendered after the design was frozen. Each row runs at the rate that validation
  chose in the two other rounds;
- "real/lips_words_0": a fold of camera footage (real_folds.py), with the rows REAL_ROWS. Rates are chosen on
  the validation of fold 0.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import candidates
import rivals

from videossp.comparison.results import merit
from videossp.methods import register_method, resolve_options
from videossp.methods.registry import method_names
from videossp.model.config import BACKBONES

BACKBONE = "videomamba_nano"
FRAMES = {"tabletop": 8, "motion": 8, "recipes": 32, "sprites": 8}  # of a clip, by set
REAL_FRAMES = {f"{name}_{fold}": 8 for name in ("lips_words", "lips_letters") for fold in range(5)}

FIRST, DESIGN, FRESH, REAL = "", "design/", "fresh/", "real/"  # rounds
GRID = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # learning rates
GRIDS = {FIRST: GRID[:-1], DESIGN: GRID, FRESH: GRID, REAL: GRID}
START = {FIRST: (1e-3, 3e-3), DESIGN: (3e-3, 1e-2), REAL: (3e-3, 1e-2)}  # the first rates, see `rates`
SEEDS = (0, 1, 2)
FRESH_SEEDS = (0, 1, 2, 3, 4)  # of FINALISTS
EPOCHS = {
    "tabletop": 4,
    "motion": 6,
    "recipes": 4,
    "sprites": 6,
}  # so a run of a set takes about ten minutes at most
REAL_EPOCHS = {name: 6 if "words" in name else 10 for name in REAL_FRAMES}
SEVERAL = {  # rows of these sets that are run with all seeds
    "tabletop": ("ssp", "linear", "lora", "vpt", "svp", "adapter", "full"),
    "motion": ("ssp", "linear", "lora", "vpt", "svp", "adapter", "full"),
}
BUDGET = {
    "batch_size": 8,
    "precision": "bf16",
    "flip": "off",  # left and right, open and close are classes
}


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        method: as `Classifier.create` takes it.
        options: of the method.
        times: as many epochs as others have.
        drop_path: stochastic depth of the frozen backbone.
        backbone: its weights: the bundled ones, "random" ones, or a file of `--backbones`.
    """

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    times: int = 1
    drop_path: float = 0.0
    backbone: str = BACKBONE


# Sizes are the published ones for VideoMamba-M, scaled to this backbone, which is a third as wide and has
# half the states. They are the defaults at this backbone; written out, recorded runs stay those of their row
# if a default changes. Shares of weights are not those at VideoMamba-M: that of ssp is 11 % here, 3 % there.
SSP = {"gather_width": 128, "spread_width": 88}
LORA = {"rank": 5}
SVP = {"width": 22}
ST_ADAPTER = {"width": 128, "layers": 2}
ROWS: dict[str, Row] = {
    "ssp": Row("ssp", SSP),
    "linear": Row("linear"),
    "linear for 4 x the epochs": Row("linear", times=4),
    "mean": Row("mean"),
    "attentive": Row("attentive"),
    "full": Row("full"),
    "partial": Row("partial"),
    "adapter": Row("adapter", {"width": 22}),
    "st_adapter": Row("st_adapter", ST_ADAPTER),
    "lora": Row("lora", LORA),
    "vpt": Row("vpt", {"length": 27}),
    "vfpt": Row("vfpt", {"length": 27, "share": 0.52}),  # 14 of them are transformed
    "svp": Row("svp", SVP),
    "additional_scan": Row("additional_scan", {"states": 3}),
    "affix": Row("affix"),
    "state_offset": Row("state_offset"),
    "stop": Row("stop", {"pixel_kernel": 5, "token_kernel": (3, 9)}),
}
CONTROL = "linear for 4 x the epochs"  # what a head alone gains from going on
# Ablations of SSP, one change at a time; also other methods with its spreading, or without time.
ABLATIONS: dict[str, Row] = {
    "gathering alone": Row("ssp", SSP | {"prompts": 0}),
    "spreading alone": Row("ssp", SSP | {"gathering": False}),
    "gathering in 1 x 3 x 3": Row("ssp", SSP | {"gather_kernel": (1, 3, 3)}),
    "gathering in 3 x 1 x 1": Row("ssp", SSP | {"gather_kernel": (3, 1, 1)}),
    "gathering from the residual": Row("ssp", SSP | {"reads": "residual"}),
    "1 prompt a frame": Row("ssp", SSP | {"prompts": 1}),
    "8 prompts a frame": Row("ssp", SSP | {"prompts": 8}),
    "entropy of the batch": Row("ssp", SSP | {"importance": "batch"}),
    "widths 384 and 256": Row("ssp", {"gather_width": 384, "spread_width": 256}),
    "widths 32 and 24": Row("ssp", {"gather_width": 32, "spread_width": 24}),
    "drop path 0.4": Row("ssp", SSP, drop_path=0.4),
    "twice the epochs": Row("ssp", SSP, times=2),
    "cls and mean": Row("ssp+mean", {"ssp": SSP}),
    "with LoRA": Row("ssp+lora", {"ssp": SSP, "lora": LORA}),
    "svp for twice the epochs": Row("svp", SVP, times=2),
    "st_adapter for twice the epochs": Row("st_adapter", ST_ADAPTER, times=2),
    "svp with the spreading of ssp": Row("svp+ssp", {"svp": SVP, "ssp": SSP | {"gathering": False}}),
    "st_adapter in 1 x 1 x 1": Row("st_adapter", ST_ADAPTER | {"kernel": (1, 1, 1)}),
    "st_adapter from the branch": Row("st_adapter", ST_ADAPTER | {"residual": False}),
    "st_adapter in every block": Row("st_adapter", {"width": 32, "layers": 8}),
    "pretrained for 6 minutes": Row("ssp", SSP, backbone="short"),
    "pretrained without the last stretch": Row("ssp", SSP, backbone="trunk"),
    "random weights": Row("ssp", SSP, backbone="random"),
    "linear, pretrained for 6 minutes": Row("linear", backbone="short"),
    "linear, pretrained without the last stretch": Row("linear", backbone="trunk"),
    "linear, random weights": Row("linear", backbone="random"),
}
# The ablations of a set: all where a head alone is far from most; on motion those that ask what st_adapter
# has, which is far ahead there; on sprites, which the pretraining has not seen, parts and pretraining.
ABLATED: dict[str, Collection[str]] = {
    "tabletop": ABLATIONS,
    "motion": (
        "gathering alone",
        "gathering in 3 x 1 x 1",
        "gathering from the residual",
        "st_adapter in 1 x 1 x 1",
        "st_adapter from the branch",
        "st_adapter in every block",
    ),
    "sprites": (
        "gathering alone",
        "spreading alone",
        "gathering in 3 x 1 x 1",
        "st_adapter in 1 x 1 x 1",
        *(title for title, row in ABLATIONS.items() if row.backbone != BACKBONE),
    ),
}


def register() -> None:
    """Make the methods of rows that are not bundled available in this process; again does nothing."""
    for name, cls in (candidates.METHODS | rivals.METHODS).items():
        if name not in method_names():
            register_method(name, cls)


MOMENTS = {"order": 2, "rank": 16}
GATHER_SPREAD = {"rank": 48, "layers": 2, "order": 2, "moment_rank": 8}
IN_ALL_BLOCKS = {"rank": 12, "layers": 8, "order": 2, "moment_rank": 8}
# Rows of the design and the fresh round.
NEW: dict[str, Row] = {
    "moments": Row("moments", MOMENTS),
    "gather_spread": Row("gather_spread", GATHER_SPREAD),
    "lora+moments": Row("lora+moments", {"lora": LORA, "moments": MOMENTS}),
    "st_adapter+moments": Row("st_adapter+moments", {"st_adapter": ST_ADAPTER, "moments": MOMENTS}),
    "svp+moments": Row("svp+moments", {"svp": SVP, "moments": MOMENTS}),
    "partial+moments": Row("partial+moments", {"moments": MOMENTS}),
    "ssp+moments": Row("ssp+moments", {"ssp": SSP, "moments": MOMENTS}),
    "step": Row("step"),
    "frame2freq": Row("frame2freq", {"width": 128, "layers": 2}),
}
# Rows of the design round alone: what a part of the method adds, and candidates for a part.
TRIED: dict[str, Row] = {
    "gather_spread without moments": Row("gather_spread", GATHER_SPREAD | {"moments": False}),
    "gather_spread without taps": Row("gather_spread", GATHER_SPREAD | {"taps": False}),
    "gather_spread with context": Row("with_context", GATHER_SPREAD),
    "gather_spread with context, without taps": Row("with_context", GATHER_SPREAD | {"taps": False}),
    "gather_spread with context, in all blocks": Row("with_context", IN_ALL_BLOCKS),
    **{
        f"gather_spread with context, in all blocks, and {name}": Row(
            f"with_context+{name}", {"with_context": IN_ALL_BLOCKS}
        )
        for name in (*candidates.PARTS, "state_offset", "lora")
    },
}
REAL_ROWS = (
    *("gather_spread", "moments", "lora+moments", "st_adapter+moments", "svp+moments"),
    *("linear", "linear for 4 x the epochs", "ssp", "svp", "lora", "st_adapter", "partial", "full"),
    *("step", "frame2freq"),
)
FINALISTS = ("gather_spread", "st_adapter+moments", "lora+moments", "moments", "frame2freq", "step")


@dataclass(frozen=True)
class Cell:
    """One run."""

    set: str
    row: str
    lr: float
    seed: int

    @property
    def asked(self) -> dict[str, Any]:
        """What is written down of a run, as it comes out of a file."""
        register()
        asked = rows_of(self.set)[self.row]
        kind = kind_of(self.set)
        epochs, frames = (EPOCHS | REAL_EPOCHS)[kind] * asked.times, (FRAMES | REAL_FRAMES)[kind]
        training = BUDGET | {"epochs": epochs, "frames": frames}
        wanted = {"row": self.row, "lr": self.lr, "seed": self.seed, **training}
        wanted |= {"drop_path": asked.drop_path, "backbone": asked.backbone}
        config = replace(BACKBONES[BACKBONE], frames=frames)
        options = resolve_options(asked.method, config, asked.options)
        return json.loads(json.dumps(wanted | {"options": options}))

    def of(self, run: Mapping[str, Any]) -> bool:
        """Whether a run is this one, done in the way that is asked for now."""
        named = (run["row"], run["lr"], run["seed"]) == (self.row, self.lr, self.seed)  # a quick no
        return named and self.asked.items() <= run.items()


def kind_of(set_name: str) -> str:
    """The name of a set without its round."""
    return set_name.rpartition("/")[2]


def round_of(set_name: str) -> str:
    """FIRST, DESIGN, FRESH or REAL."""
    return set_name.removesuffix(kind_of(set_name))


def rows_of(set_name: str) -> dict[str, Row]:
    """The rows of a set."""
    if round_of(set_name) == REAL:
        return {title: (ROWS | NEW)[title] for title in REAL_ROWS}
    if round_of(set_name) == DESIGN:
        return ROWS | NEW | TRIED
    if round_of(set_name) == FRESH:  # finalists first: runs start in this order
        return {title: (ROWS | NEW)[title] for title in (*FINALISTS, *ROWS, *NEW)}
    own = ABLATED.get(set_name, ())
    return ROWS | {title: row for title, row in ABLATIONS.items() if title in own}


def search_of(set_name: str) -> str:
    """The set on which the rates of a set's rows are searched."""
    searched_on = {FRESH: f"{DESIGN}{kind_of(set_name)}", REAL: f"{set_name[:-1]}0"}
    return searched_on.get(round_of(set_name), set_name)


def seeds_of(set_name: str, title: str) -> tuple[int, ...]:
    """The seeds of a row."""
    if round_of(set_name) == FRESH:
        return FRESH_SEEDS if title in FINALISTS else FRESH_SEEDS[:1]
    return SEEDS if title in SEVERAL.get(set_name, ()) else SEEDS[:1]


# How good a rate is, see `merit`. None: it runs.
Merit = tuple[float, float] | None


def rates(set_name: str, tried: Mapping[float, Merit]) -> list[float]:
    """Learning rates that must still be tried on a set of `search_of`, given those that have been.

    Empty if the best of them has neighbours on both sides, or stands at an end of the grid. Rows that were
    not in the first round have the rates of START only: two each, which saves a third of the time.
    """
    found = round_of(set_name)
    missing = [lr for lr in START[found] if lr not in tried]
    if tried.keys() <= set(START[found]) and (missing or found != FIRST):
        return missing
    if None in tried.values():
        return []
    grid = GRIDS[found]
    at = grid.index(best_rate(tried))
    around = grid[max(0, at - 1) : at + 2]
    return [lr for lr in around if lr not in tried]


def best_rate(tried: Mapping[float, Merit]) -> float:
    """The best rate on validation; of equals the smallest."""
    known = {lr: merit for lr, merit in sorted(tried.items()) if merit is not None}
    return max(known, key=known.__getitem__)


def second_rate(tried: Mapping[float, Merit]) -> float | None:
    """The second-best rate on validation; None if there is none."""
    rest = {lr: merit for lr, merit in tried.items() if lr != best_rate(tried) and merit is not None}
    return best_rate(rest) if rest else None


def base_of(title: str) -> str:
    """The row that a row changes, whose validation chooses its rate; of a row of the table itself."""
    return title if title in ROWS | NEW | TRIED else ABLATIONS[title].method.split("+")[0]


def tried_of(
    name: str, title: str, runs: Sequence[Mapping[str, Any]], running: Collection[Cell] = ()
) -> dict[float, Merit]:
    """By rate, how good the first seed of a row is; -inf if it failed."""
    tried: dict[float, Merit] = {}
    for lr in GRID:
        cell = Cell(name, title, lr, SEEDS[0])
        for run in filter(cell.of, runs):
            tried[lr] = merit(run)
        if cell in running:
            tried[lr] = None
    return tried
