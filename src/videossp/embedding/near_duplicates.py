"""Near-duplicates: pairs of videos in different splits that look alike, ranked, and pictures of them."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.image import imsave

from videossp.data.datasets import VideoDataset
from videossp.data.doctor.checks import Finding, Member, finding, split_pairs
from videossp.data.video import read_frames, read_video
from videossp.embedding.embed import absolute, completed, embedder
from videossp.embedding.embeddings import Embeddings
from videossp.embedding.probes import refuse_parts
from videossp.embedding.similar import nearest
from videossp.errors import DataError
from videossp.reporting.page import escape, picture, write_page
from videossp.system.rows import storable

BACKBONE = "videomamba_nano"  # of new files; with moments, which found most copies (docs/data.md)
NEIGHBOUR = 3  # the distance to this neighbour is the usual distance between different videos
RATIO = 0.6  # a pair is reported if its distance is below this part of it
MOST_PICTURES = 100  # pairs on a page
HEIGHT = 96  # pixels of a frame on a page


@dataclass(frozen=True)
class Pair:
    """Two videos of different splits that are each other's nearest video in the other split.

    Attributes:
        one, other: (split, sample).
        similarity: cosine similarity of their vectors.
        ratio: their distance, 1 - similarity, over that from either of them to its third-nearest video of
            both splits, the smaller one.
    """

    one: Member
    other: Member
    similarity: float
    ratio: float


def near_duplicates(embeddings: Embeddings, data: VideoDataset) -> list[Pair]:
    """The pairs of videos in two splits whose ratio is below `RATIO`, smallest first.

    No similarity tells copies from other videos in all data sets. The ratio of distances, as in Lowe's test
    for matches of images (2004), compares a pair with its own neighbourhood instead. It takes the third
    neighbour, so that another copy does not hide a pair. Pairs of the same content are left out: they are
    found by their sha256.

    Args:
        embeddings: videos without a vector are not compared.
        data: its splits.

    Raises:
        DataError: samples are parts of files.
    """
    row = {path: i for i, path in enumerate(embeddings.paths)}
    refuse_parts([x for _, x in data.all_samples()])
    members = [x for x in data.all_samples() if storable(absolute(x[1].path)) in row]
    vectors = embeddings.normalised()
    pairs = []
    for _, here, others in split_pairs(members):
        rows = torch.tensor([row[storable(absolute(x.path))] for _, x in here + others])
        both = vectors[rows]
        a, b = both[: len(here)], both[len(here) :]
        usual = _distance(both[:, None], both[_neighbours(both)[:, -1:]])[:, 0]
        forth, back = nearest(a, b, 1)[1][:, 0], nearest(b, a, 1)[1][:, 0]
        for i, k in enumerate(forth.tolist()):
            known = embeddings.sha256[int(rows[i])] == embeddings.sha256[int(rows[len(here) + k])]
            if back[k] != i or known:
                continue
            distance = _distance(a[i], b[k]).item()
            scale = min(usual[i].item(), usual[len(here) + k].item())
            if distance < RATIO * scale:
                pairs.append(Pair(here[i], others[k], 1 - distance, distance / scale))
    return sorted(pairs, key=lambda x: x.ratio)


def _neighbours(vectors: torch.Tensor) -> torch.Tensor:
    return nearest(vectors, vectors, min(NEIGHBOUR, len(vectors) - 1), same=True)[1]


def _distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """1 - cosine similarity of vectors of length 1, exact also for those that are almost the same."""
    return (x.double() - y.double()).square().sum(-1) / 2


def near_duplicate_findings(pairs: Sequence[Pair]) -> Iterator[Finding]:
    """A finding of the doctor for each pair; the reported video is that of the earlier split."""
    for x in pairs:
        (split, one), (other_split, other) = x.one, x.other
        text = (
            f"{one.name} ({split}) looks like {other.name} ({other_split}): cosine similarity "
            f"{x.similarity:.4f}, distance {x.ratio:.2f} of that to other videos"
        )
        yield finding("split.leak-near-duplicate", text, [x.one])


def embeddings_of(data: VideoDataset, file: Path, **options: Any) -> Embeddings:
    """The embeddings of a data set in a file; videos that it lacks are added.

    A new file has the features "moments" of the frozen `videomamba_nano`. Videos that are missing or cannot
    be decoded get no vector.

    Args:
        data: the data set.
        file: .safetensors, .npz or .parquet.
        **options: of `add_videos`.
    """
    samples = [x for _, x in data.all_samples()]
    refuse_parts(samples)
    videos = dict.fromkeys(absolute(x.path) for x in samples if os.path.exists(x.path))
    return completed(file, [*videos], lambda: embedder(BACKBONE, "moments"), **options)


def write_pairs(path: Path, pairs: Sequence[Pair], classes: Sequence[str]) -> None:
    """Write an HTML page with the first, middle and last frame of both videos of each pair."""
    parts = [f"<p>{len(pairs)} pairs, the most suspicious first. Different videos can look alike.</p>"]
    for x in pairs[:MOST_PICTURES]:
        names = [f"{sample.name} ({split}, {classes[sample.label]})" for split, sample in (x.one, x.other)]
        text = f"ratio {x.ratio:.2f}, similarity {x.similarity:.4f}: {names[0]} | {names[1]}"
        try:
            strips = [_strip(sample.path) for _, sample in (x.one, x.other)]
        except DataError:  # the file was removed or changed meanwhile
            continue

        def draw(file: BinaryIO, strips: list[np.ndarray] = strips) -> None:
            gap = np.full((HEIGHT, 12, 3), 255, np.uint8)
            imsave(file, np.concatenate([strips[0], gap, strips[1]], axis=1), format="png")

        parts.append(f"<figure><figcaption>{escape(text)}</figcaption>{picture(text, draw)}</figure>")
    if len(pairs) > MOST_PICTURES:
        parts.append(f"<p>{len(pairs) - MOST_PICTURES} more pairs are not shown.</p>")
    write_page(path, "Videos of different splits that look alike", parts)


def _strip(path: str) -> np.ndarray:
    """The first, middle and last frame side by side, (HEIGHT, width, 3) uint8."""
    video = read_video(path)
    frames = read_frames(video, lambda count: [0, count // 2, count - 1])
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)
    size = HEIGHT, max(1, frames.shape[2] * HEIGHT // frames.shape[1])
    small = F.interpolate(images, size, mode="bilinear", antialias=True)
    return np.concatenate([*small.permute(0, 2, 3, 1).numpy()], axis=1)
