"""Explanations: how faithful the maps of `videossp explain` are, whether they depend on the weights, cost.

    python benchmarks/explain.py faithful ADAPTER SET --split SPLIT [--clips 24]
    python benchmarks/explain.py sanity ADAPTER SET [--clips 12]
    python benchmarks/explain.py gaps ADAPTER SET [--clips 12]
    python benchmarks/explain.py speed ADAPTER

SET is the folder of a data set, of which every N-th clip of the split is taken. The results are added to
benchmarks/results/explain.json; benchmarks/page.py writes the tables of docs/explain.md from them.

faithful: deletion and insertion (`explanation/faithfulness.py`) of every map, with both baselines, by patches
and by frames, for the predicted class. By frames, a map is summed over each frame. Orders to compare with:
random; the centre of the frame, or by frames the middle of the clip; the change of a patch from the median
frame. None of these needs the model.

sanity: rank correlation of a map with that of a model whose weights are randomised, block by block from the
head downwards (Adebayo et al. 2018, arXiv 1810.03292). A map that stays the same does not explain the model.

gaps: relative error of the sum of integrated gradients by the number of steps, with the places of
`gradients.quadrature` (squares), in the middle of equal parts, and those of Gauss-Legendre; "refined": of 16
steps, three times as many where the error is above 2 %, as in `explain`; "stopped": squares with the stops of
SSP's training.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from videossp import prepare_process

prepare_process()  # before torch is loaded

import numpy as np  # noqa: E402
import records  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from videossp import Classifier, load, read_data  # noqa: E402
from videossp.data.clips import read_views  # noqa: E402
from videossp.explanation import gradients  # noqa: E402
from videossp.explanation.baselines import baseline_of  # noqa: E402
from videossp.explanation.faithfulness import deletion_and_insertion  # noqa: E402
from videossp.explanation.mechanism import mechanism  # noqa: E402
from videossp.explanation.occlusion import frame_places, spread, window_places, without  # noqa: E402

FILE = records.RESULTS / "explain.json"
FILLS = ("mean_colour", "median_frame")
SHORT = {"mean_colour": "mean colour", "median_frame": "median frame"}
RANDOM = 4  # orders that are averaged
DEFAULT = "integrated gradients, both baselines"
Maps = dict[str, Tensor]  # by name, (frames, rows, columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, clips in (("faithful", 24), ("sanity", 12), ("gaps", 12), ("speed", 1)):
        verb = verbs.add_parser(name)
        verb.add_argument("adapter", type=Path)
        verb.add_argument("set", type=Path, nargs="?" if name == "speed" else None)
        verb.add_argument("--split", default="test")
        verb.add_argument("--clips", type=int, default=clips)
        text = "measure this map (faithful), or these places (gaps), and keep the other results"
        verb.add_argument("--only", help=text)
    args = parser.parse_args()
    classifier = load(args.adapter).eval()
    if args.verb == "speed":
        speed(classifier)
        return
    key = {"kind": args.verb, "set": args.set.name, "method": classifier.method, "split": args.split}
    clips = clips_of(classifier, args)
    if args.verb == "sanity":
        rows = list(sanity(classifier, clips))
    else:
        rows = list({"faithful": faithful, "gaps": gaps}[args.verb](classifier, clips, args.only))
    same = {"map", "fill", "cells", "nodes"} & rows[0].keys() if args.only else ()
    replaced = [key | {name: row[name] for name in same} for row in rows]
    kept = [x for x in records.read(FILE) if not any(y.items() <= x.items() for y in replaced)]
    records.write(FILE, kept + [key | row for row in rows])


def clips_of(classifier: Classifier, args: argparse.Namespace) -> list[Tensor]:
    """Evenly spread clips of the split, (3, frames, height, width)."""
    samples = read_data(args.set).splits[args.split]
    chosen = np.linspace(0, len(samples) - 1, min(args.clips, len(samples))).round().astype(int)
    return [read_views(samples[i].path, classifier.clip_format)[0] for i in chosen]


@torch.no_grad()
def predicted(classifier: Classifier, clip: Tensor) -> int:
    return int(classifier(clip[None]).argmax())


def faithful(classifier: Classifier, clips: list[Tensor], only: str | None) -> Iterator[dict[str, Any]]:
    """A row for each map, fill and kind of cells, with the values of all clips."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    started = time.monotonic()
    for number, clip in enumerate(clips):
        label = predicted(classifier, clip)
        by_patches = maps_of(classifier, clip, label, only)
        by_frames = {k: x.sum((1, 2)) for k, x in by_patches.items() if k != CENTRE}
        if only is None:
            by_frames |= {k: curve(classifier, clip, label, k.split(", ")[1]) for k in CURVES}
        by_frames[MIDDLE] = -(torch.arange(clip.shape[1]) - (clip.shape[1] - 1) / 2).abs()
        for cells, maps in (("patches", by_patches), ("frames", by_frames)):
            scores = {k: x for k, x in maps.items() if only in (None, k)}
            if not scores:
                continue
            shape = clip.shape[1], *(classifier.backbone.config.grid if cells == "patches" else ())
            generator = torch.Generator().manual_seed(number)
            scores |= {f"random {i}": torch.rand(shape, generator=generator) for i in range(RANDOM)}
            for fill in FILLS:
                empty = baseline_of(clip, fill)
                areas = deletion_and_insertion(classifier, clip, label, [*scores.values()], empty)
                for name, area in zip(scores, areas, strict=True):
                    found.setdefault((name, fill, cells), []).append(area)
        print(f"clip {number + 1} of {len(clips)}, {time.monotonic() - started:.0f} s", flush=True)
    for (name, fill, cells), areas in found.items():
        if name.startswith("random"):
            continue
        chance = [[i - d for d, i in found[f"random {k}", fill, cells]] for k in range(RANDOM)]
        by_chance = np.mean(chance, axis=0)
        values = [round(i - d - r, 4) for (d, i), r in zip(areas, by_chance.tolist(), strict=True)]
        deletion, insertion = (round(statistics.fmean(x), 4) for x in zip(*areas, strict=True))
        row = {"map": name, "fill": fill, "cells": cells, "deletion": deletion, "insertion": insertion}
        yield row | {"beyond": values}


CENTRE, MIDDLE = "centre of the frame (no model)", "middle of the clip (no model)"
CURVES = ("frames removed, mean_colour", "frames removed, median_frame")


def curve(classifier: Classifier, clip: Tensor, label: int, fill: str) -> Tensor:
    """Drop of the log-probability without each frame."""
    return -without(classifier, clip, baseline_of(clip, fill), frame_places(clip.shape[1]))[:, label]


def maps_of(classifier: Classifier, clip: Tensor, label: int, only: str | None = None) -> Maps:
    """All maps of a clip, or one of them."""
    shape = clip.shape[1], *classifier.backbone.config.grid
    empty = {fill: baseline_of(clip, fill) for fill in FILLS}
    made: Maps = {}

    def by_gradients(fill: str, steps: int) -> Tensor:
        name = f"{fill} {steps}"
        if name not in made:
            made[name] = integrated(classifier, clip, label, empty[fill], steps)
        return made[name]

    def by_occlusion(fill: str) -> Tensor:
        places = window_places(clip.shape[1], shape[1:])
        return spread(-without(classifier, clip, empty[fill], places)[:, [label]], places, shape)[0]

    makers: dict[str, Callable[[], Tensor]] = {}
    for fill in FILLS:
        makers[f"integrated gradients, {SHORT[fill]}"] = partial(by_gradients, fill, 16)
        makers[f"occlusion, {SHORT[fill]}"] = partial(by_occlusion, fill)
    makers[DEFAULT] = lambda: torch.stack([by_gradients(fill, 16) for fill in FILLS]).mean(0)
    for fill in FILLS:
        makers[f"integrated gradients, {SHORT[fill]}, 4 steps"] = partial(by_gradients, fill, 4)
    makers["gradient x pixel"] = lambda: gradient_times_pixel(classifier, clip, label)
    patch = classifier.backbone.config.patch
    makers["change from the median frame (no model)"] = lambda: gradients.by_patch(
        (clip - empty["median_frame"]).abs(), patch
    )
    rows, columns = (torch.arange(n) - (n - 1) / 2 for n in shape[1:])
    makers[CENTRE] = lambda: -(rows[:, None] ** 2 + columns**2).sqrt().expand(shape)
    maps = {name: make() for name, make in makers.items() if only in (None, name)}
    if only is None or not (maps or only in (MIDDLE, *CURVES)):
        for x in mechanism(classifier, clip[None]):
            values = x.values[0].mean(0) if x.per == "frame_pair" else x.values[0]  # attention received
            maps[x.name] = values if values.ndim == 3 else values[:, None, None].expand(shape)
    return maps


def integrated(classifier: Classifier, clip: Tensor, label: int, empty: Tensor, steps: int) -> Tensor:
    return gradients.integrated_gradients(classifier, clip, [label], empty, steps=steps)[0][0]


def gradient_times_pixel(classifier: Classifier, clip: Tensor, label: int) -> Tensor:
    """Integrated gradients from the mean colour with one step at the clip itself."""
    with gradients.inputs_only(classifier):
        x = clip[None].requires_grad_()
        (gradient,) = torch.autograd.grad(classifier(x)[0, label], x)
    return gradients.by_patch((gradient * clip)[0].detach(), classifier.backbone.config.patch)


def sanity(classifier: Classifier, clips: list[Tensor]) -> Iterator[dict[str, Any]]:
    """A row for each map: its mean rank correlation with the maps of models with random weights."""
    labels = [predicted(classifier, clip) for clip in clips]
    before = [maps_of(classifier, *x) for x in zip(clips, labels, strict=True)]
    depth = classifier.backbone.config.depth
    stages: list[tuple[str, list[nn.Module]]] = [("head", [classifier.head])]
    stages += [(f"block {k}", [classifier.backbone.layers[k]]) for k in reversed(range(depth))]
    stages += [("method", [classifier.tuner]), ("embedding", [classifier.backbone.patch_embed])]
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[float]] = {name: [] for name in before[0]}
    for title, modules in stages:
        for module in modules:
            for x in module.parameters():  # the same values in random order: their scale stays
                x.data = x.data.flatten()[torch.randperm(x.numel(), generator=generator)].view_as(x)
        after = [maps_of(classifier, *x) for x in zip(clips, labels, strict=True)]
        for name in found:
            pairs = [rank_correlation(a[name], b[name]) for a, b in zip(before, after, strict=True)]
            found[name].append(round(statistics.fmean(pairs), 3))
        print(title, found[DEFAULT][-1], flush=True)
    for name, values in found.items():
        yield {"map": name, "stages": [title for title, _ in stages], "correlation": values}
    # Agreement between the methods, on the trained model.
    for name in found:
        agree = [statistics.fmean(rank_correlation(x[name], x[other]) for x in before) for other in found]
        yield {"map": name, "others": [*found], "agreement": [round(x, 3) for x in agree]}


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's correlation; 0 for a map without differences."""
    if a.std() == 0 or b.std() == 0 or not torch.isfinite(b).all():
        return 0.0
    ranks = torch.stack([x.flatten().argsort().argsort().double() for x in (a, b)])
    return torch.corrcoef(ranks)[0, 1].item()


def gaps(classifier: Classifier, clips: list[Tensor], only: str | None) -> Iterator[dict[str, Any]]:
    """Relative errors of the sum of integrated gradients."""
    for fill in FILLS:
        for steps in (4, 8, 16, 32):
            for nodes in RULES if only is None else [only]:
                if nodes == "refined" and steps != 16:
                    continue
                errors = []
                for clip in clips:
                    label, empty = predicted(classifier, clip), baseline_of(clip, fill)
                    with torch.no_grad():
                        ends = classifier(torch.stack([clip, empty]))[:, label]
                    change = ends[0] - ends[1]
                    if nodes == "refined":  # as `explain` does: more steps where the error is above 2 %
                        known = {"steps": steps, "changes": change[None]}
                        found, _ = gradients.integrated_gradients(classifier, clip, [label], empty, **known)
                        total = found.sum()
                    else:
                        with quadrature(classifier, nodes):
                            total = integrated(classifier, clip, label, empty, steps).sum()
                    errors.append(((total - change).abs() / change.abs()).item())
                row = {"fill": fill, "steps": steps, "nodes": nodes}
                print(
                    row,
                    f"mean {statistics.fmean(errors):.4f}, median {statistics.median(errors):.4f}",
                    flush=True,
                )
                yield row | {"errors": [round(x, 5) for x in errors]}


RULES = ("squares", "refined", "middles", "gauss_legendre", "stopped")


def legendre(steps: int) -> tuple[Tensor, Tensor]:
    places, shares = np.polynomial.legendre.leggauss(steps)
    return torch.tensor((places + 1) / 2).float(), torch.tensor(shares / 2).float()


@contextmanager
def quadrature(classifier: Classifier, rule: str) -> Iterator[None]:
    """Within this context integrated gradients use another rule."""
    usual, flowing = gradients.quadrature, classifier.tuner.all_gradients
    if rule == "middles":
        gradients.quadrature = lambda n: ((torch.arange(n) + 0.5) / n, torch.full((n,), 1 / n))
    elif rule == "gauss_legendre":
        gradients.quadrature = legendre
    elif rule == "stopped":
        classifier.tuner.all_gradients = nullcontext
    try:
        yield
    finally:
        gradients.quadrature, classifier.tuner.all_gradients = usual, flowing


def speed(classifier: Classifier) -> None:
    """Print the median times of ten runs on a random clip, in ms."""
    config = classifier.backbone.config
    clip = torch.randn(3, config.frames, *config.size, generator=torch.Generator().manual_seed(0))
    empty, places = baseline_of(clip, "median_frame"), window_places(config.frames, config.grid)
    runs: dict[str, Callable[[], object]] = {
        "forward pass": lambda: predicted(classifier, clip),
        "integrated gradients, 8 steps": lambda: integrated(classifier, clip, 0, empty, 8),
        "integrated gradients, 16 steps": lambda: integrated(classifier, clip, 0, empty, 16),
        f"frames, {config.frames} places": lambda: without(
            classifier, clip, empty, frame_places(config.frames)
        ),
        f"occlusion, {len(places)} places": lambda: without(classifier, clip, empty, places),
        "mechanism": lambda: mechanism(classifier, clip[None]),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(11):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - started))
    for name, values in times.items():
        print(f"{name:32} {statistics.median(values[1:]):8.0f} ms")


if __name__ == "__main__":
    main()
