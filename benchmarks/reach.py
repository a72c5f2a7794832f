"""How far cls of the frozen backbone sees: how it changes if a quarter of a clip is replaced.

    python benchmarks/reach.py FOLDER/recipes --frames 32 --out benchmarks/results/reach.json

A quarter of the frames of a validation clip is replaced by the same quarter of the next clip. Printed and
recorded: the change of cls, and of the mean over all patches, after the last block, relative to their own
size (both after the RMS norm of the head, without weights); and the same if the middle two quarters are
exchanged.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from records import write
from torch import Tensor

from videossp import Classifier, read_data
from videossp.data.clips import read_views

BATCH = 4


def features(classifier: Classifier, clips: Tensor) -> dict[str, Tensor]:
    """cls and the mean of the patches after the last block, (batch, d_model)."""
    with torch.inference_mode(), classifier.computing(clips):
        tokens = classifier.backbone.encode(clips)
        whole = {
            "cls": (tokens.part("cls") + tokens.residual_part("cls")).squeeze(1),
            "mean": (tokens.part("patches") + tokens.residual_part("patches")).flatten(1, 2),
        }
    normed = {name: F.rms_norm(x.float(), x.shape[-1:], eps=1e-5) for name, x in whole.items()}
    return {"cls": normed["cls"], "mean": normed["mean"].mean(1)}


def changed(clips: Tensor, way: int | str) -> Tensor:
    """Clips with a quarter of the next clip of the batch, or with the middle two quarters exchanged."""
    parts = list(clips.chunk(4, dim=2))
    if way == "middle":
        parts[1], parts[2] = parts[2], parts[1]
    else:
        parts[int(way)] = parts[int(way)].roll(1, dims=0)
    return torch.cat(parts, dim=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.frames % 4:
        parser.error(f"--frames must be a multiple of 4, got {args.frames}")
    data = read_data(args.folder)
    classifier = Classifier.create(classes=data.classes, method="linear", frames=args.frames).eval()
    samples = data.splits["val"][:: max(1, len(data.splits["val"]) // args.clips)][: args.clips]
    sums: dict[tuple[str, str], list[float]] = {}
    for start in range(0, len(samples) - BATCH + 1, BATCH):
        views = [read_views(x.path, classifier.clip_format) for x in samples[start : start + BATCH]]
        clips = torch.cat(views)
        before = features(classifier, clips)
        for way in (0, 1, 2, 3, "middle"):
            for name, x in features(classifier, changed(clips, way)).items():
                change = (x - before[name]).norm(dim=-1) / before[name].norm(dim=-1)
                sums.setdefault((name, str(way)), []).extend(change.tolist())
    rows = [
        {"set": args.folder.name, "frames": args.frames, "feature": name, "changed": way}
        | {"clips": len(values), "change": sum(values) / len(values)}
        for (name, way), values in sums.items()
    ]
    write(args.out, rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
