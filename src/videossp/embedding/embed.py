"""`embed`: one feature vector per video, of the tuned model of an adapter or of the frozen backbone."""

import json
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from videossp.adapter_folder import digest
from videossp.classifier import Classifier
from videossp.data.sampling import ClipFormat
from videossp.data.video.remote import local_copy
from videossp.embedding.embedding_file import EmbeddingFile
from videossp.embedding.embeddings import Embeddings, different_setting
from videossp.embedding.features import MOMENTS, Kind, check_kind, features_of
from videossp.errors import WeightsError
from videossp.inference.decode_ahead import Fetch, Reading
from videossp.inference.passes import Passes, finite
from videossp.inference.predict import Paths, common_views, find_videos, usual_batch
from videossp.inference.video_results import OnError, check_on_error, video_results
from videossp.load_adapter import load
from videossp.model.device import Device, choose_device
from videossp.system.progress import with_bar


@dataclass(frozen=True)
class Embedder:
    """What computes embeddings, and how; see `embed`.

    Attributes:
        classifier: computes on its device and in its precision.
        features: kind of the features.
        views: (segments, crops) of a video.
        frozen: the classifier is a backbone with an untrained head, which has no part in the vectors.
        folder: of the adapter, for the file; None: unknown.
    """

    classifier: Classifier
    features: Kind
    views: tuple[int, int]
    frozen: bool = False
    folder: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of `Embeddings`, values of JSON.

        Raises:
            ValueError: the adapter cannot be identified: it is merged or disabled, or its method is not
                registered.
        """
        x, config = self.classifier, self.classifier.backbone.config
        width = config.d_model * (min(MOMENTS, config.frames) if self.features == "moments" else 1)
        norm = digest({"weight": x.head.norm.weight}) if self.frozen else None  # else in the adapter
        adapter = None if self.frozen else {"sha256": digest(x.check_saving()), "folder": self.folder}
        settings = {
            "features": self.features,
            "frozen": self.frozen,
            "width": width,
            "backbone": {**asdict(x.source), "sha256": x.sha256, "norm_sha256": norm},
            "adapter": adapter,
            "clip": asdict(replace(x.clip_format, views=self.views)),
            "precision": x.precision,
            "videossp": version("videossp"),
        }
        found: dict[str, Any] = json.loads(json.dumps(settings))  # lists in place of tuples, as in a file
        return found

    def each(
        self,
        videos: Iterable[str],
        *,
        on_error: OnError = "error",
        batch_size: int | None = None,
        workers: int = 0,
        timeout: float | None = None,
        fetch: Fetch = local_copy,
    ) -> Generator[tuple[str, Tensor | None, str], None, None]:
        """(video, vector, "") of each video in order, or (video, None, reason) if it cannot be decoded.

        The vector, (width,) float32 on the CPU, is the mean over the views. To stop early, close the
        iterator.

        Args:
            videos: of `find_videos`, or names that `fetch` knows; they are taken only as far ahead as is
                needed.
            on_error, batch_size, workers, timeout, fetch: see `predict_each`.

        Raises:
            FloatingPointError: a vector is not finite.
        """
        check_on_error(on_error)
        classifier = self.classifier
        reading = Reading(classifier.clip_format, *self.views, fetch=fetch)
        passes = Passes(
            classifier,
            lambda clips: features_of(classifier, clips, self.features),
            usual_batch([classifier], batch_size),
        )
        with closing(
            video_results(passes, videos, reading, on_error=on_error, workers=workers, timeout=timeout)
        ) as results:
            for video, vectors, reason in results:
                yield video, None if vectors is None else finite(vectors).mean(0), reason


def embed(
    model: Classifier | str | Embedder,
    paths: Paths,
    *,
    features: Kind = "cls",
    segments: int | None = None,
    crops: int | None = None,
    output: str | Path | None = None,
    on_error: OnError = "error",
    batch_size: int | None = None,
    workers: int = 0,
    timeout: float | None = None,
    progress: bool = False,
) -> Embeddings:
    """The feature vectors of videos: the mean over the views of each.

    Args:
        model: a classifier, whose tuned features are computed on its device and in its precision; or the
            name of a frozen backbone, as in `Classifier.create`.
        paths: one path or several, of videos and of folders, which are searched for videos to the bottom.
        features: "cls", "mean" or "moments", see `features_of`.
        segments, crops: views per video; default: `ClipFormat.views` of the classifier.
        output: a .safetensors, .npz or .parquet file. Vectors that it has are taken from it, if the content
            of the video is the same; the others are added to it. Videos that have failed are tried again.
        on_error: "error" stops at the first video that cannot be decoded; "skip" puts it into
            `Embeddings.errors`.
        batch_size, workers, timeout: see `predict_each`.
        progress: show a progress bar if stderr is a terminal.

    Returns:
        Those of these videos, in the order of the paths, each once.

    Raises:
        DataError: a path does not exist, a folder has no videos, or (on_error "error") a video cannot be
            decoded; or the output is damaged.
        ValueError: the output was made with other settings, or another process writes it.
        FloatingPointError: a vector is not finite.
    """
    if not isinstance(model, Embedder):
        model = embedder(model, features, segments=segments, crops=crops)
    videos = list(dict.fromkeys(map(absolute, find_videos(paths))))
    with EmbeddingFile.open(None if output is None else Path(output), model.settings) as file:
        add_videos(
            file,
            model,
            file.lacking(videos),
            on_error=on_error,
            batch_size=batch_size,
            workers=workers,
            timeout=timeout,
            progress=progress,
        )
        return file.embeddings(videos)


def add_videos(
    file: EmbeddingFile,
    model: Embedder,
    videos: Sequence[str],
    *,
    progress: bool = False,
    **options: Any,
) -> int:
    """Add videos to a file.

    Args:
        file: is open.
        model: its settings are those of the file.
        videos: those of `EmbeddingFile.lacking`.
        progress: show a progress bar if stderr is a terminal.
        **options: of `Embedder.each`.

    Returns:
        The number of videos that were computed.
    """
    computed = 0
    if not videos:  # worker processes need not start
        return 0
    with closing(model.each(file.without_vector(videos), **options)) as results:
        for video, vector, reason in with_bar(results, "embedding", len(videos)) if progress else results:
            file.add(video, vector, reason or None)
            computed += 1
    return computed


def completed(file: Path, videos: Sequence[str], model: Callable[[], Embedder], **options: Any) -> Embeddings:
    """The embeddings of videos in a file; those that it lacks are computed and added. Failures are skipped.

    Args:
        file: of any model; its model is loaded only if a video is missing.
        videos: absolute paths.
        model: makes the embedder if there is no such file.
        **options: of `add_videos`.

    Raises:
        WeightsError: the model of the file is needed and cannot be found.
    """
    made = None if file.exists() else model()
    settings = made.settings if made else Embeddings.load(file).settings
    with EmbeddingFile.open(file, settings) as opened:
        if new := opened.lacking(videos):
            made = made or recorded_embedder(settings, file)
            add_videos(opened, made, new, on_error="skip", **options)
        return opened.embeddings(videos)


def embedder(
    model: Classifier | str,
    features: Kind = "cls",
    *,
    segments: int | None = None,
    crops: int | None = None,
    folder: str | None = None,
) -> Embedder:
    """The `Embedder` of a classifier, or of the frozen backbone of a name; arguments as in `embed`.

    Args:
        folder: of the classifier's adapter, which the file then names.

    Raises:
        ValueError: unknown features, or views that clips cannot have.
        WeightsError: the weights of the backbone cannot be found or read.
    """
    check_kind(features)
    classifier = frozen_classifier(model) if isinstance(model, str) else model
    views = common_views([classifier], segments, crops)
    Reading(classifier.clip_format, *views)  # checks the views
    return Embedder(classifier, features, views, isinstance(model, str), folder and os.path.abspath(folder))


def frozen_classifier(backbone: str, **options: Any) -> Classifier:
    """A classifier whose features are those of the frozen backbone; its head is random.

    Args:
        backbone: as in `Classifier.create`.
        **options: others of `Classifier.create`.
    """
    return Classifier.create(backbone, num_classes=2, method="linear", **options)


def recorded_embedder(
    settings: dict[str, Any],
    file: str | Path,
    *,
    adapter: str | None = None,
    backbone: str | None = None,
    device: Device | None = None,
) -> Embedder:
    """The `Embedder` that made a file of embeddings.

    Args:
        settings: those of the file.
        file: for errors.
        adapter, backbone: the folder of the adapter, and the weights of the backbone, if they have moved.
        device: where it computes, see `choose_device`; default: the CPU.

    Raises:
        ValueError: an adapter is given for a file of a frozen backbone.
        WeightsError: the model cannot be found, or is not the one that made the file.
    """
    recorded, clip = settings["adapter"], settings["clip"]
    segments, crops = clip["views"]
    if recorded is None:
        if adapter is not None:
            raise ValueError(f"{file}: was made with a frozen backbone: --adapter cannot be given")
        source = settings["backbone"]
        options = {"frames": clip["frames"], "size": tuple(clip["size"])}
        if backbone is None:
            options |= {"weights": source["weights"], "seed": source["seed"]}
        classifier = frozen_classifier(backbone or source["name"], **options)
        folder = None
    else:
        folder = adapter or recorded["folder"]
        if folder is None:
            raise WeightsError(f"{file}: does not tell where its adapter is: name its folder by --adapter")
        try:
            classifier = load(folder, backbone=backbone)
        except WeightsError as error:
            moved = (
                "" if adapter else f"{file}: its adapter cannot be loaded; if it has moved, give --adapter: "
            )
            raise WeightsError(f"{moved}{error}") from error
    if device is not None:
        classifier = classifier.to(choose_device(device))
    classifier = classifier.to_precision(settings["precision"])
    if recorded is None:
        classifier.clip_format = ClipFormat(**clip)
    found = Embedder(classifier, settings["features"], (segments, crops), recorded is None, folder)
    if difference := different_setting(settings, found.settings):
        raise WeightsError(
            f"{file}: was made with another model ({difference}); give --adapter or --backbone"
        )
    return found


def absolute(path: str) -> str:
    """The absolute path, by which a file of embeddings knows a video; other names, as URIs, unchanged."""
    return path if "://" in path else os.path.abspath(path)
