"""What a trained SSP lives on: its test accuracy with one part switched off, and how large its parts are.

    python benchmarks/inside.py SET RUN... --out FILE.json

SET is the folder of a data set with a test split, each RUN a run folder of method `ssp`. The parts are
switched off after training, by weights, so what is lost is what the trained classifier relies on; what one
trained without the part would lose is another question, which table.py asks. The parts:

    gathering   the prompt that is added to the patches
    spreading   the content of the prompt slots after each frame; the slots stay, empty
    attention   over the frames: each attends to all of them alike
    entropy     the gains, so a frame's token is not weighted by the entropy of its prompt
    places      within a frame: all its places make the summary alike
    frames      each frame's own content of the slots: after all frames of a clip stands the mean of its slots
    clips       each clip's own content: in all clips stands the mean of 64 of them, by block and slot

FILE has a line for each run and part, by set, rate and seed; what is in it is not computed again, but for
runs whose adapter is another by now.
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

WATCHED = 64  # test videos, evenly spaced, of whose slots sizes are told and means are taken


def clear(*parts: Tensor) -> None:
    """Zero in place."""
    for x in parts:
        x.zero_()


def attend_alike(ssp: SSP) -> None:
    """Queries and keys of nothing."""
    for spread in ssp.spread:
        attention: Any = spread.attention
        clear(*(x[: 2 * attention.embed_dim] for x in (attention.in_proj_weight, attention.in_proj_bias)))


def weigh_alike(ssp: SSP) -> None:
    """Every channel's mean over the places in each of them."""
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
    """After SSP: the same slots after every frame; those given by layer, or the mean over the clip's own."""

    def __init__(self, slots: list[Tensor] | None = None) -> None:
        super().__init__()
        self.slots = slots

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        own = tokens.part("ssp")
        slots = own.mean(1, keepdim=True) if self.slots is None else self.slots[layer].to(own.dtype)
        return tokens.write(ssp=slots.expand_as(own))


PARTS = (*OFF, "frames", "clips")


@torch.no_grad()
def without(part: str, ssp: SSP, slots: list[Tensor]) -> Tuner:
    """SSP with one of PARTS switched off; `slots` by layer: (slots, d_model)."""
    if part in OFF:
        OFF[part](ssp)
        return ssp
    return Chain({"ssp": ssp, "same": Same(slots if part == "clips" else None)})


class Before(Tuner):
    """Remembers the patches that SSP reads."""

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        tokens.memory["before"] = tokens.part("patches")
        return tokens


class After(Tuner):
    """Notes what SSP wrote.

    Attributes:
        sizes: by layer, root mean squares of the gathering's `prompt` and of the `slots`, over that of the
            patches; of the `weights` of frames, over their mean, less 1, which is 0 where all weigh the same;
            and of the slots, each brought to length 1, the square length of their mean over the frames of a
            clip (`in_clip`) and over all (`in_all`), which is 1 where all are the same.
        slots: by layer, their mean over clips and frames, (slots, d_model).
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
        ways = F.normalize(slots, dim=-1)
        for name, over in (("in_clip", (1,)), ("in_all", (0, 1))):
            named[name] = ways.mean(over).square().sum(-1).mean().item()
        self.sizes.append({"layer": layer, **named})
        self.slots.append(slots.mean((0, 1)))
        return tokens


@torch.no_grad()
def watch(classifier: Classifier, clips: Tensor) -> After:
    """What SSP wrote into some clips."""
    own: Any = classifier.tuner
    after = After(own.importance)
    classifier.tuner = Chain({"before": Before(), "ssp": own, "after": after})
    try:
        classifier.eval()(clips)
    finally:
        classifier.tuner = own
    return after


def rows_of(
    folder: Path, key: dict[str, Any], test: Sequence[Sample], done: Collection[str]
) -> Iterator[dict[str, Any]]:
    """The rows of a run, of the parts that are not done: `key` and figures on the test videos."""
    missing = [part for part in PARTS if part not in done]
    if not missing:
        return
    whole = load(folder)
    some = test[:: max(1, len(test) // WATCHED)][:WATCHED]
    seen = watch(whole, torch.cat([read_views(x.path, whole.clip_format) for x in some]))
    for part in missing:
        classifier = load(folder)
        classifier.tuner = without(part, classifier.tuner, seen.slots)  # type: ignore[arg-type]
        result = evaluate(classifier.to_precision(BUDGET["precision"]), test)
        figures = {"top1": result.top(1), "hits": "".join(str(int(hit)) for hit in result.hits)}
        sizes = {"sizes": seen.sizes} if part == "nothing" else {}
        yield key | {"off": part, "backbone_sha256": whole.sha256} | figures | sizes


def main() -> None:
    """Exit code: 2 if the set or a run cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    configs = {x: x / "config.yaml" for x in args.runs}
    known = {x: yaml.safe_load(path.read_text()) for x, path in configs.items() if path.is_file()}
    if odd := [x for x in args.runs if known.get(x, {}).get("method") != "ssp"]:
        parser.error(f"{odd[0]}: no run folder of method ssp")
    done = read(args.out)
    try:
        if not (test := read_data(args.set).splits.get("test")):
            parser.error(f"{args.set}: has no test split")
        for folder, config in known.items():
            sha = hashlib.sha256((folder / "adapter" / WEIGHTS).read_bytes()).hexdigest()
            run = {"set": args.set.name, "lr": config["lr"], "seed": config["seed"]}
            key = run | {"adapter_sha256": sha}
            done = [x for x in done if not run.items() <= x.items() or key.items() <= x.items()]
            own = [x["off"] for x in done if key.items() <= x.items()]
            for row in rows_of(folder, key, test, own):
                done.append(row)
                done.sort(key=lambda x: (x["set"], x["lr"], x["seed"], PARTS.index(x["off"])))
                write(args.out, done)
                print(f"{folder}, without {row['off']}: {100 * row['top1']:.1f} %", flush=True)
    except (DataError, WeightsError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
