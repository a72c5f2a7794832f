"""Near-duplicates: how many changed copies of videos `videossp doctor --near-duplicates` finds.

    python benchmarks/near_duplicates.py SET --work FOLDER [--features moments] [--ratios 0.5,0.6,0.7]

SET is the folder of a data set with train and test splits, as demo/clips. Every second training video is
copied into FOLDER three times: re-encoded; cropped by 5 % on each side; cropped, brightened and re-encoded.
For each kind the copies are added to the test videos, and the reported pairs are counted: a pair of a video
and its copy is found, any other is false. "none" adds no copies. The splits are those of SET, and random ones
of the same sizes, which are harder: there, test videos are as like training videos as these are to each
other. Figures of random splits are means of ten draws.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from videossp import prepare_process

prepare_process()  # before torch is loaded

import av  # noqa: E402
import numpy as np  # noqa: E402

from videossp import Sample, VideoDataset, embed, read_data  # noqa: E402
from videossp.data.video import read_frames  # noqa: E402
from videossp.embedding import near_duplicates  # noqa: E402

DRAWS = 10  # random splits
KINDS = ("re-encoded", "cropped", "all three")


def write_copy(source: str, target: Path, kind: str) -> None:
    """Write a changed copy of a video."""
    frames = read_frames(source)
    if kind != "re-encoded":
        rows, columns = (round(0.05 * x) for x in frames.shape[1:3])
        frames = frames[:, rows:-rows, columns:-columns]
        frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    if kind == "all three":
        frames = (1.15 * frames + 12).clip(0, 255).astype(np.uint8)
    with av.open(source) as container:
        rate = container.streams.video[0].average_rate
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "32"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for x in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(x), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--features", default="moments")
    parser.add_argument("--ratios", default="0.5,0.6,0.7")
    args = parser.parse_args()
    data = read_data(args.set)
    train, test = data.splits["train"], data.splits["test"]
    copies: dict[str, list[Sample]] = {"none": []}
    for kind in KINDS:
        folder = args.work / kind.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        copies[kind] = []
        for x in train[::2]:
            target = folder / Path(x.path).name
            if not target.exists():
                write_copy(x.path, target, kind)
            copies[kind].append(replace(x, path=str(target), name=f"copy of {x.name}"))
    paths = [x.path for members in ((train, test), copies.values()) for y in members for x in y]
    file = args.work / f"{args.features}.safetensors"
    embeddings = embed("videomamba_nano", paths, features=args.features, output=file, progress=True)
    everything = train + test
    draws = [np.random.default_rng(seed).permutation(len(everything)) for seed in range(DRAWS)]
    splits = {
        "of the set": [(train, test)],
        "random": [
            ([everything[i] for i in x[: len(train)]], [everything[i] for i in x[len(train) :]])
            for x in draws
        ],
    }
    ratios = [float(x) for x in args.ratios.split(",")]
    print(f"{'splits':12}{'copies':12}{'number':>8}" + "".join(f"{f'below {x:g}':>24}" for x in ratios))
    near_duplicates.RATIO = max(ratios)
    for name, draws_of in splits.items():
        for kind, copied in copies.items():
            counts = np.zeros((len(ratios), 2))
            number = 0
            for kept, tested in draws_of:
                names = {x.name for x in kept}
                added = [x for x in copied if x.name.removeprefix("copy of ") in names]
                number += len(added)
                mixed = VideoDataset(data.classes, {"train": kept, "test": tested + added})
                for pair in near_duplicates.near_duplicates(embeddings, mixed):
                    false = pair.other[1].name != f"copy of {pair.one[1].name}"
                    counts[:, int(false)] += [pair.ratio < x for x in ratios]
            cells = [f"{found:.1f} found, {false:.1f} false" for found, false in counts / len(draws_of)]
            print(f"{name:12}{kind:12}{number / len(draws_of):8.1f}" + "".join(f"{x:>24}" for x in cells))


if __name__ == "__main__":
    main()
