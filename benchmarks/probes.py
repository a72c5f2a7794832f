"""Linear probes of a frozen backbone: how much does the accuracy on a set depend on motion?

    python benchmarks/probes.py SET --out FILE.json [--frames N] [--backbones NAME,...] [--views clip]

SET is the folder of a data set with train, val and test splits. A probe is a logistic regression, fitted to
convergence on one view of each training clip. Its weight decay is chosen on val, its accuracy is measured on
test. Its features are cls, as a head of videossp reads it, or cls and the mean of the patch tokens. The
views:

    clip            the frames of a clip in order
    first, last     this one frame, repeated
    shuffled        the frames of each clip in random order
    frames          each frame alone, repeated (eight frames of a longer clip); their features are averaged

The accuracy on `frames` needs no order of the frames; the additional accuracy on `clip` needs motion. If the
annotation has a column `pair`, FILE also has the accuracy within pairs: the label's score against that of its
opposite. FILE is written after each backbone; rows that it already has are not computed again.
NAME is random (three seeds, `clip` only), videomamba_nano or a checkpoint.
"""

import argparse
import csv
import math
from collections.abc import Callable
from pathlib import Path

from videossp import prepare_process

prepare_process()  # before torch is loaded

import numpy as np  # noqa: E402
import records  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from videossp import Classifier, read_data  # noqa: E402
from videossp.comparison.intervals import wilson  # noqa: E402
from videossp.data.clips import read_views  # noqa: E402

SPLITS = ("train", "val", "test")
DECAYS = 10.0 ** torch.arange(-5, 2.5, 0.5)
BATCH = 8  # clips
RANDOM_SEEDS = (0, 1, 2)  # seeds of the random weights

# Number of frames of a clip -> the clips to encode, as indices of frames.
View = Callable[[int, np.random.Generator], list[np.ndarray]]
VIEWS: dict[str, View] = {
    "clip": lambda n, rng: [np.arange(n)],
    "first": lambda n, rng: [np.zeros(n, int)],
    "last": lambda n, rng: [np.full(n, n - 1)],
    "shuffled": lambda n, rng: [rng.permutation(n)],
    "frames": lambda n, rng: [np.full(n, i) for i in np.linspace(0, n - 1, min(n, 8)).astype(int)],
}


@torch.no_grad()
def features(classifier: Classifier, clips: Tensor, view: View) -> Tensor:
    """cls as a head reads it, and the mean of the patches, of clips (n, 3, T, height, width): (n, 2 D)."""
    rng, out = np.random.default_rng(0), []
    for part in clips.split(BATCH):
        shown = [clip[:, indices] for clip in part for indices in view(clip.shape[1], rng)]
        tokens = classifier.backbone.encode(torch.stack(shown))
        final = tokens.residual + tokens.hidden
        cls, patches = classifier.head.norm(final[:, 0]), F.rms_norm(final[:, 1:], final.shape[2:])
        out.append(torch.cat([cls, patches.mean(1)], dim=1).unflatten(0, (len(part), -1)).mean(1))
    return torch.cat(out)


def fit(x: Tensor, y: Tensor, decay: Tensor) -> nn.Linear:
    """Multinomial logistic regression by L-BFGS, from zero."""
    model = nn.Linear(x.shape[1], int(y.max()) + 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    solver = torch.optim.LBFGS(model.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(model(x), y) + decay * model.weight.square().sum() / len(model.weight)
        loss.backward()
        return loss

    solver.step(closure)
    return model.requires_grad_(False)


def probe(x: dict[str, Tensor], y: dict[str, Tensor], opposite: Tensor | None) -> dict[str, object]:
    """Fit on train with the weight decay that is best on val, by accuracy and then loss; evaluate on test.

    Args:
        x, y: features (n, width) and labels (n,) by split.
        opposite: (classes, classes), true within a pair; None if there are no pairs.
    """
    mean, std = x["train"].mean(0), x["train"].std(0) + 1e-6
    x = {split: (values - mean) / std for split, values in x.items()}
    models = [fit(x["train"], y["train"], decay) for decay in DECAYS]
    val_scores = [model(x["val"]) for model in models]
    on_val = [(accuracy(s, y["val"]), -F.cross_entropy(s, y["val"]).item()) for s in val_scores]
    best = max(range(len(models)), key=on_val.__getitem__)
    scores = models[best](x["test"])
    result: dict[str, object] = {"top1": accuracy(scores, y["test"]), "val": on_val[best][0]}
    result["interval"] = wilson(accuracy(scores, y["test"]), len(scores))
    result["decay"] = float(DECAYS[best])
    if opposite is not None:
        result["in_pairs"] = accuracy(scores.masked_fill(~opposite[y["test"]], -math.inf), y["test"])
    return result


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Share of the rows whose highest score is that of the label."""
    return (scores.argmax(1) == labels).float().mean().item()


def opposites(folder: Path, classes: tuple[str, ...]) -> Tensor | None:
    """(classes, classes), true for a class and its opposite and for itself; None if there are no pairs."""
    with (folder / "val.csv").open() as file:
        pair_of = {row["label"]: row.get("pair") for row in csv.DictReader(file)}
    if None in pair_of.values():
        return None
    return torch.tensor([[pair_of[a] == pair_of[b] for b in classes] for a in classes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", type=Path)
    parser.add_argument("--backbones", default="random,videomamba_nano")
    parser.add_argument("--frames", type=int, help="frames per clip (default: those of the backbone)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--views", default=",".join(VIEWS), help="comma-separated names (default: all)")
    args = parser.parse_args()
    if unknown := [x for x in args.views.split(",") if x not in VIEWS]:
        parser.error(f"no view {unknown[0]!r}; the views are {', '.join(VIEWS)}")
    data = read_data(args.set)
    opposite = opposites(args.set, data.classes)
    jobs = []
    for name in args.backbones.split(","):
        if name == "random":
            jobs += [(f"random, seed {i}", {"weights": "random", "seed": i}) for i in RANDOM_SEEDS]
        else:
            jobs.append((name if name == "videomamba_nano" else Path(name).stem, {"backbone": name}))
    done = records.read(args.out)
    labels = {s: torch.tensor([x.label for x in data.splits[s]]) for s in SPLITS}
    clips: dict[str, Tensor] = {}
    for name, options in jobs:
        options |= {"classes": data.classes, "method": "linear"}
        weights = Classifier.create(**options).sha256  # before its positions are resized
        classifier = Classifier.create(**options, frames=args.frames).eval()
        key = {
            "set": args.set.name,
            "backbone": name,
            "sha256": weights,
            "frames": classifier.clip_format.frames,
        }
        views = args.views.split(",") if "weights" not in options else ["clip"]
        views = [x for x in views if not any((key | {"view": x}).items() <= row.items() for row in done)]
        if not views:
            continue
        clips = clips or {
            s: torch.stack([read_views(x.path, classifier.clip_format)[0] for x in data.splits[s]])
            for s in SPLITS
        }
        for view in views:
            encoded = {s: features(classifier, clips[s], VIEWS[view]) for s in SPLITS}
            width = encoded["train"].shape[1] // 2
            for read, columns in (("cls", slice(width)), ("cls+mean", slice(None))):
                x = {s: values[:, columns] for s, values in encoded.items()}
                row = key | {"view": view, "features": read} | probe(x, labels, opposite)
                done.append(row)
                print(f"{name:20} {view:9} {read:9} {100 * row['top1']:5.1f} %", flush=True)
        records.write(args.out, done)


if __name__ == "__main__":
    main()
