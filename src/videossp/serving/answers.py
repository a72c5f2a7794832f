"""The answers of the API, as OpenAPI describes them."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field


class ErrorAnswer(BaseModel):
    """Why a request has no result."""

    detail: str = Field(description="one line that says what to do")


class Health(BaseModel):
    """Whether the service runs, or takes requests."""

    status: Literal["live", "ready"]


class Score(BaseModel):
    """A class and its probability, as in the task video-classification of Hugging Face."""

    label: str
    score: float = Field(ge=0, le=1)


class ModelScores(BaseModel):
    """The most probable classes by one adapter."""

    model: str
    predictions: list[Score]


class ModelInfo(BaseModel):
    """An adapter that is served."""

    name: str
    method: str
    classes: list[str]
    frames: int = Field(description="frames of a clip")
    # Not tuples: some readers of OpenAPI do not know prefixItems.
    size: Sequence[int] = Field(
        min_length=2, max_length=2, description="height and width of a clip in pixels"
    )
    views: Sequence[int] = Field(
        min_length=2, max_length=2, description="segments and crops of a video, whose scores are averaged"
    )
    backbone: str = Field(description="sha256 of the frozen backbone")
    precision: str
    video_seconds: float | None = Field(description="mean duration of the training videos")
    error: str | None = Field(description="why the files that are there now are not loaded")


class Limits(BaseModel):
    """The limits for requests."""

    max_bytes: int
    max_seconds: float
    max_pixels: int
    max_job_bytes: int
    max_job_seconds: float


class Models(BaseModel):
    """All adapters, and the limits of the service."""

    models: list[ModelInfo]
    limits: Limits


class AdapterFolders(BaseModel):
    """Folders whose adapters can be loaded."""

    folders: list[str]


class NewAdapter(BaseModel):
    """An adapter to load."""

    folder: str = Field(min_length=1, max_length=1000, description="below the folder of --adapters")
    name: str | None = Field(None, max_length=100, description="default: that of the folder")


class Vector(BaseModel):
    """The feature vector of a video."""

    model: str
    features: str
    vector: list[float]


class ExplanationAnswer(BaseModel):
    """Which patches and frames a prediction depends on; see docs/explain.md."""

    model: str
    predictions: list[Score]
    target: str = Field(description="the explained class")
    method: str
    baseline: str
    unit: str = Field(description="of the map")
    seconds: list[float] | None = Field(description="time of each frame")
    map: list[list[list[float]]] = Field(description="by frame, row and column of patches")
    frame_drops: list[float] = Field(description="drop of the log-probability without each frame")
    without_frame: list[str] = Field(description="the predicted class without each frame")
    change: float = Field(description="logit of the clip minus that of the baseline")
    gap: float | None = Field(description="relative error of the sum of the map")
    frames: list[str] = Field(description="the frames that the model reads, as data URLs")


class SegmentAnswer(BaseModel):
    """A stretch of a long video with one class; times in seconds."""

    start: float
    end: float
    label: str
    probability: float


class JobAnswer(BaseModel):
    """A job, and the segments found so far."""

    id: str
    model: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    progress: float = Field(ge=0, le=1)
    seconds: float | None = Field(description="duration of the video")
    segments: list[SegmentAnswer]
    error: str | None
