"""Results of the service in the form of the API's answers."""

import base64
from io import BytesIO
from typing import Any

from PIL import Image
from torch import Tensor

from videossp.explanation.explanation import Explanation
from videossp.serving.adapters import Adapter
from videossp.serving.answers import ExplanationAnswer, JobAnswer, ModelInfo, Score, SegmentAnswer
from videossp.serving.jobs import Job


def info_of(adapter: Adapter) -> ModelInfo:
    """An adapter for the API."""
    x = adapter.classifier
    return ModelInfo(
        name=adapter.name,
        method=x.method,
        classes=list(x.classes),
        frames=x.clip_format.frames,
        size=x.clip_format.size,
        views=x.clip_format.views,
        backbone=x.sha256,
        precision=x.precision,
        video_seconds=x.video_seconds,
        error=adapter.error,
    )


def ranked(scores: Tensor, adapter: Adapter, top_k: int) -> list[Score]:
    """The most probable classes first, in the order of `predict`."""
    values, order = scores.sort(descending=True, stable=True)
    classes = adapter.classifier.classes
    pairs = list(zip(order.tolist(), values.clamp(0, 1).tolist(), strict=True))[:top_k]
    return [Score(label=classes[i], score=p) for i, p in pairs]


def explanation_answer(model: str, x: Explanation, top_k: int) -> ExplanationAnswer:
    """An explanation for the API."""
    return ExplanationAnswer(
        model=model,
        predictions=[Score(label=k, score=min(1.0, p)) for k, p in [*x.probabilities.items()][:top_k]],
        target=x.target,
        method=x.method,
        baseline=x.baseline,
        unit=x.unit,
        seconds=None if x.seconds is None else list(x.seconds),
        map=x.map.tolist(),
        frame_drops=x.frame_drops.tolist(),
        without_frame=list(x.without_frame),
        change=x.change,
        gap=x.gap,
        frames=[data_url(pixels) for pixels in x.frames],
    )


def data_url(pixels: Any) -> str:
    """An image (height, width, 3) uint8 as the URL of a JPEG."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def job_answer(job: Job) -> JobAnswer:
    """A job for the API."""
    segments = [
        SegmentAnswer(start=x.start, end=x.end, label=x.label, probability=x.probability)
        for x in list(job.segments)
    ]
    return JobAnswer(
        id=job.id,
        model=job.model,
        status=job.status,
        progress=job.progress,
        seconds=job.seconds,
        segments=segments,
        error=job.error,
    )
