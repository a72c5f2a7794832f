"""`videossp embed`, `videossp similar` and `videossp probe`."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from videossp.cli.arguments import Arguments
from videossp.cli.bulk import add_bulk, bulk_of, run_bulk
from videossp.cli.flags import add_data, add_device, data_of, device_of, load_adapter, views_of
from videossp.cli.options import add_option, group_of
from videossp.cli.output import DATA, print_message, print_result
from videossp.cli.videos import (
    add_computing,
    add_videos,
    check_speed,
    listed_paths,
    start_workers,
    without_repeats,
    workers_of,
)

if TYPE_CHECKING:
    import torch
    from jsonargparse import ArgumentParser, Namespace
    from torch import Tensor

    from videossp.cli.bulk import Bulk
    from videossp.embedding.embed import Embedder


def embed(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Write one feature vector per video to a file, or to a folder of parts."""
    from videossp.embedding.embed import absolute
    from videossp.embedding.embed import add_videos as add_new
    from videossp.embedding.embedding_file import EmbeddingFile
    from videossp.embedding.embeddings import check_suffix
    from videossp.embedding.features import Kind
    from videossp.inference.predict import find_videos

    group = group_of(parser, "model")
    if given.value("frozen") is None:
        group.add_argument("adapter", type=str, metavar="ADAPTER", help="adapter folder or run folder")
    add_videos(group, given)
    add_option(group, "frozen", str, "a backbone without an adapter, in place of ADAPTER, as videomamba_nano")
    add_option(group, "backbone", str, "weights of the adapter's backbone, if they have moved")
    add_option(group, "features", Kind, "of the last block", default="cls")
    add_computing(parser, group)
    add_bulk(parser)
    group = group_of(parser, "output")
    text = "FILE.safetensors|.npz|.parquet; videos that it has are not computed again"
    group.add_argument("--output", type=str, metavar="FILE", help=text)

    def run(args: "Namespace") -> int:
        check_speed(args)
        if (args.output is None) == (args.out is None):
            raise ValueError("give --output FILE, or --out FOLDER with --list FILE for a run in shards")
        if args.output is not None:
            check_suffix(Path(args.output))
        bulk = bulk_of(args)
        device = device_of(args)
        if args.ray is None:
            start_workers(args)
        model = model_of(args, device)
        if bulk:
            return embed_shards(args, bulk, model)
        output = Path(args.output)
        videos = without_repeats(
            [absolute(x) for x in find_videos(listed_paths(args.paths, args.list), print_message)]
        )
        with EmbeddingFile.open(output, model.settings) as file:
            new = file.lacking(videos)
            computed = add_new(
                file,
                model,
                new,
                on_error="skip",
                batch_size=args.batch_size,
                workers=workers_of(args, device, len(new)),
                timeout=args.timeout or None,
                progress=True,
            )
            errors = file.embeddings(videos).errors
            total = len(file.rows)
        for reason in errors.values():
            print_message(f"FAILED {reason}")
        source = model.classifier.source
        name = f"frozen {source.weights or source.name}" if model.frozen else args.adapter
        width = model.settings["width"]
        summary = {
            "output": args.output,
            "videos": len(videos),
            "computed": computed,
            "failed": errors,
            "in_file": total,
            "width": width,
        }
        line = (
            f"{output}: {len(videos)} videos, {computed} of them computed now, {len(errors)} failed; "
            f"{width} numbers each ({model.features} of {name})"
        )
        print_result(args, summary, [line])
        return DATA if errors else 0

    return run


def embed_shards(args: "Namespace", bulk: "Bulk", model: "Embedder") -> int:
    """Write a file of vectors for each shard of a list; returns the exit code."""
    from videossp.bulk.ray_cluster import Job
    from videossp.embedding.embed_job import COLUMNS, EmbedJob
    from videossp.model.backbones import absolute

    classifier = model.classifier
    job = EmbedJob(
        adapter=model.folder,
        backbone=(args.frozen or args.backbone) and absolute(args.frozen or args.backbone),
        features=model.features,
        precision=classifier.precision,
        views=model.views,
        batch_size=args.batch_size,
        timeout=args.timeout or None,
    )
    settings = {name: x for name, x in model.settings.items() if name != "videossp"}
    if settings["adapter"]:
        settings["adapter"] = {"sha256": settings["adapter"]["sha256"]}
    workers = workers_of(args, classifier.device, bulk.videos.videos)
    compute = job.compute(model, workers)
    return run_bulk(args, bulk, settings, COLUMNS, compute, Job(job.start, args.device, args.workers))


def model_of(args: "Namespace", device: "torch.device") -> "Embedder":
    """The model that the flags of `embed` name."""
    from videossp.embedding.embed import Embedder, frozen_classifier

    if args.frozen is None:
        classifier = load_adapter(args, device)
    elif args.backbone is not None:
        raise ValueError("--backbone is the one of an adapter; --frozen names a backbone alone")
    else:
        classifier = frozen_classifier(args.frozen).to(device).to_precision(args.precision or "float32")
    views, frozen = views_of(args, classifier), args.frozen is not None
    folder = None if frozen else os.path.abspath(args.adapter)
    return Embedder(classifier, args.features, views, frozen, folder)


def similar(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """List the videos of an embedding file that are most similar to a video."""
    from videossp.embedding.embed import absolute, recorded_embedder
    from videossp.embedding.embeddings import Embeddings
    from videossp.embedding.similar import most_similar
    from videossp.errors import DataError
    from videossp.system.rows import storable

    group = group_of(parser, "query")
    group.add_argument("query", type=str, metavar="QUERY", help="a video, in the file or not")
    group.add_argument("embeddings", type=str, metavar="EMBEDDINGS", help="file of videossp embed")
    add_option(group, "adapter", str, "folder of the file's adapter, if it has moved")
    add_option(group, "backbone", str, "weights of its backbone, if they have moved")
    add_device(group)
    add_option(group_of(parser, "output"), "top", int, "videos to list", default=10)

    def run(args: "Namespace") -> int:
        if args.top < 1:
            raise ValueError(f"--top must be at least 1, got {args.top}")
        found = Embeddings.load(args.embeddings)
        path = absolute(args.query)
        if (own := storable(path)) in found.paths:
            vector: Tensor | None = found.vectors[found.paths.index(own)]
        elif not os.path.exists(path):
            raise DataError(f"{args.query}: no such file, and not in {args.embeddings}")
        else:
            model = recorded_embedder(
                found.settings,
                args.embeddings,
                adapter=args.adapter,
                backbone=args.backbone,
                device=device_of(args),
            )
            ((_, vector, _),) = model.each([path])
        assert vector is not None  # a video that cannot be decoded is an error
        ranked = most_similar(vector, found, args.top + 1)
        ranked = [(name, value) for name, value in ranked if name != own][: args.top]
        summary = {
            "query": args.query,
            "similar": [{"path": name, "similarity": value} for name, value in ranked],
        }
        return print_result(args, summary, [f"{value:7.4f}  {shown(name)}" for name, value in ranked])

    return run


def shown(path: str) -> str:
    """A path for people: relative if it is below the current folder."""
    relative = path if "://" in path else os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


def probe(parser: "ArgumentParser", given: Arguments) -> "Callable[[Namespace], int]":
    """Measure how well embeddings separate the classes of a data set, in seconds."""
    from videossp.embedding.embeddings import Embeddings
    from videossp.embedding.probes import NEIGHBOURS
    from videossp.embedding.probes import probe as run_probe
    from videossp.training.config import TrainConfig

    group = group_of(parser, "embeddings")
    group.add_argument("embeddings", type=str, metavar="EMBEDDINGS", help="file of videossp embed")
    add_data(parser)
    group = group_of(parser, "probes")
    add_option(group, "neighbours", int, "of the k-nearest-neighbour probe", default=NEIGHBOURS)
    text = "fraction held out if there is no val split, to choose the penalty of the ridge"
    add_option(group, "val_fraction", float, text, default=TrainConfig.val_fraction)

    def run(args: "Namespace") -> int:
        data = data_of(args)
        results = run_probe(
            Embeddings.load(args.embeddings),
            data,
            neighbours=args.neighbours,
            val_fraction=args.val_fraction,
        )
        count = len(data.splits["test"])
        summary = [
            {name: x for name, x in asdict(result).items() if name != "predictions"} | {"videos": count}
            for result in results
        ]
        lines = [f"{'':5}  top-1, {count} videos  95 % interval"]
        for x in results:
            low, high = (100 * y for y in x.interval)
            how = f"{x.setting:g} neighbours" if x.name == "knn" else f"penalty {x.setting:g}"
            lines.append(f"{x.name:5}  {100 * x.top1:5.1f} %  {low:5.1f} to {high:5.1f} %  {how}")
        return print_result(args, summary, lines)

    return run
