"""Test accuracy of a trained SSP with one part switched off, and the sizes of its parts.

    python benchmarks/inside.py SET RUN... --out FILE.json

SET is the folder of a data set with a test split, each RUN is a run folder of method `ssp`. A part is
switched off after training, by its weights: the loss of accuracy shows how much the trained classifier relies
on it. How much a classifier trained without the part would lose is another question (the ablations of
table.py). The parts:

    gathering   the prompt that is added to the patches
    spreading   the content of the prompt slots after each frame; the slots remain, empty
    attention   over the frames: each frame attends to all equally
    entropy     the gains, so a frame's token is not weighted by the entropy of its prompt
    places      within a frame: all positions have the same weight in the summary
    frames      differences between frames: all slots of a clip hold the mean over its frames
    clips       differences between clips: all clips hold the mean over 64 clips, by block and slot

FILE has a line for each run and part, by set, rate and seed. Lines that it already has are not computed
again, except for runs whose adapter has changed.
"""

import argparse
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from videossp import prepare_process

prepare_process()  # before torch is loaded

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import yaml  # noqa: E402
from records import read, write  # noqa: E402
from rows import BUDGET  # noqa: E402
from torch import Tensor  # noqa: E402

from videossp import Classifier, DataError, WeightsError, evaluate, load, read_data  # noqa: E402
from videossp.adapter_folder import WEIGHTS  # noqa: E402
from videossp.data.clips import read_views  # noqa: E402
from videossp.data.datasets import Sample  # noqa: E402
from videossp.methods.chain import Chain  # noqa: E402
from videossp.methods.layers.frame_weights import frame_weights  # noqa: E402
from videossp.methods.ssp import SSP  # noqa: E402
from videossp.model.hooks import Tuner  # noqa: E402
from videossp.model.tokens import Tokens  # noqa: E402

WATCHED = 64  # evenly spaced test videos, for the sizes and the means of the slots


def clear(*parts: Tensor) -> None:
    """Zero in place."""
    for x in parts:
        x.zero_()


def attend_alike(ssp: SSP) -> None:
    """Set the weights of queries and keys to zero."""
    for spread in ssp.spread:
        attention: Any = spread.attention
        clear(*(x[: 2 * attention.embed_dim] for x in (attention.in_proj_weight, attention.in_proj_bias)))


def weigh_alike(ssp: SSP) -> None:
    """Replace the weights of the positions by their mean, per channel."""
    ssp.places.weight.copy_(ssp.places.weight.mean((-2, -1), keepdim=True).expand_as(ssp.places.weight))


OFF: dict[str, Callable[[Any], None]] = {
    "nothing": lambda ssp: None,
    "gathering": lambda ssp: clear(*ssp.gather.up.parameters()),
    "spreading": lambda ssp: clear(*ssp.summary.parameters()),
    "attention": attend_alike,
    "entropy": lambda ssp: clear(ssp.gain),
    "places": weigh_alike,
}


class Same(Tuner):
    """After SSP: the same slots after every frame, given by layer, or the mean over the clip's frames."""

    def __init__(self, slots: list[Tensor] | None = None) -> None:
        super().__init__()
        self.slots = slots

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        old = tokens.part("ssp")
        slots = old.mean(1, keepdim=True) if self.slots is None else self.slots[layer].to(old.dtype)
        return tokens.write(ssp=slots.expand_as(old))


PARTS = (*OFF, "frames", "clips")


@torch.no_grad()
def without(part: str, ssp: SSP, slots: list[Tensor]) -> Tuner:
    """SSP with one of PARTS switched off; `slots` are means by layer, (slots, d_model)."""
    if part in OFF:
        OFF[part](ssp)
        return ssp
    return Chain({"ssp": ssp, "same": Same(slots if part == "clips" else None)})


class Before(Tuner):
    """Stores the patches that SSP reads."""

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        tokens.memory["before"] = tokens.part("patches")
        return tokens


class After(Tuner):
    """Measures the output of SSP.

    Attributes:
        sizes: by layer. `prompt` and `slots`: root mean squares of the gathering's prompt and of the slots,
            divided by that of the patches. `weights`: root mean square of (weight / mean weight - 1) over
            frames, 0 if all frames weigh the same. `in_clip` and `in_all`: squared length of the mean of the
            slots, scaled to length 1, over the frames of a clip and over all clips; 1 if all are the same.
        slots: by layer, the mean over clips and frames, (slots, d_model).
    """

    def __init__(self, importance: str) -> None:
        super().__init__()
        self.importance = importance
        self.sizes: list[dict[str, float]] = []
        self.slots: list[Tensor] = []

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        patches, slots = tokens.memory["before"], tokens.part("ssp")
        prompt = tokens.part("patches") - patches
        uneven = frame_weights(prompt, self.importance) * prompt.shape[1] - 1
        size, *sizes = (x.square().mean().sqrt().item() for x in (patches, prompt, slots, uneven))
        named = {"prompt": sizes[0] / size, "slots": sizes[1] / size, "weights": sizes[2]}
        directions = F.normalize(slots, dim=-1)
        for name, over in (("in_clip", (1,)), ("in_all", (0, 1))):
            named[name] = directions.mean(over).square().sum(-1).mean().item()
        self.sizes.append({"layer": layer, **named})
        self.slots.append(slots.mean((0, 1)))
        return tokens


@torch.no_grad()
def watch(classifier: Classifier, clips: Tensor) -> After:
    """Run SSP on some clips and measure its output."""
    ssp: Any = classifier.tuner
    after = After(ssp.importance)
    classifier.tuner = Chain({"before": Before(), "ssp": ssp, "after": after})
    try:
        classifier.eval()(clips)
    finally:
        classifier.tuner = ssp
    return after


def rows_of(
    folder: Path, key: dict[str, Any], test: Sequence[Sample], done: Collection[str]
) -> Iterator[dict[str, Any]]:
    """The rows of a run for the parts that are not done: `key` and figures on the test videos."""
    missing = [part for part in PARTS if part not in done]
    if not missing:
        return
    full = load(folder)
    watched = test[:: max(1, len(test) // WATCHED)][:WATCHED]
    after = watch(full, torch.cat([read_views(x.path, full.clip_format) for x in watched]))
    for part in missing:
        classifier = load(folder)
        classifier.tuner = without(part, classifier.tuner, after.slots)  # type: ignore[arg-type]
        result = evaluate(classifier.to_precision(BUDGET["precision"]), test)
        figures = {"top1": result.top(1), "hits": "".join(str(int(hit)) for hit in result.hits)}
        sizes = {"sizes": after.sizes} if part == "nothing" else {}
        yield key | {"off": part, "backbone_sha256": full.sha256} | figures | sizes


def main() -> None:
    """Exit code: 2 if the set or a run is unusable."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    configs = {x: x / "config.yaml" for x in args.runs}
    known = {x: yaml.safe_load(path.read_text()) for x, path in configs.items() if path.is_file()}
    if others := [x for x in args.runs if known.get(x, {}).get("method") != "ssp"]:
        parser.error(f"{others[0]}: not a run folder of method ssp")
    done = read(args.out)
    try:
        if not (test := read_data(args.set).splits.get("test")):
            parser.error(f"{args.set}: has no test split")
        for folder, config in known.items():
            sha = hashlib.sha256((folder / "adapter" / WEIGHTS).read_bytes()).hexdigest()
            run = {"set": args.set.name, "lr": config["lr"], "seed": config["seed"]}
            key = run | {"adapter_sha256": sha}
            done = [x for x in done if not run.items() <= x.items() or key.items() <= x.items()]
            parts = [x["off"] for x in done if key.items() <= x.items()]
            for row in rows_of(folder, key, test, parts):
                done.append(row)
                done.sort(key=lambda x: (x["set"], x["lr"], x["seed"], PARTS.index(x["off"])))
                write(args.out, done)
                print(f"{folder}, without {row['off']}: {100 * row['top1']:.1f} %", flush=True)
    except (DataError, WeightsError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
