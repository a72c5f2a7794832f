"""`label_studio_routes`: an ML backend of Label Studio, for Choices and TimelineLabels of a Video."""

import asyncio
import logging
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from torch import Tensor

from videossp.serving.adapters import Adapter
from videossp.serving.answers import ErrorAnswer
from videossp.serving.jobs import Job
from videossp.serving.json_body import described, json_body
from videossp.serving.problem import LOOKING, READING, Problem, problems
from videossp.serving.service import Service, Timing, unless_gone
from videossp.system.printable import printable
from videossp.watching.outputs import label_studio_ranges

LOCAL_FILES = "/data/local-files/"
LONGEST_CONFIG = 200_000
MOST_TASKS = 100
MOST_CONTROLS = 16
ITEMS = {"Choices": "Choice", "TimelineLabels": "Label"}  # tags, and the tags of their labels
log = logging.getLogger("videossp.serve")


@dataclass(frozen=True)
class LabelStudioFiles:
    """The files that tasks may name.

    Attributes:
        root: the folder that Label Studio serves at /data/local-files/ (LOCAL_FILES_DOCUMENT_ROOT).
    """

    root: Path

    def find(self, name: object) -> Path:
        """The file that a task names, as /data/local-files/?d=clips/a.mp4.

        Raises:
            Problem: it is not a file below the root.
        """
        inside = local_name(name)
        if not inside:
            raise Problem(422, f"the video must be of local storage, {LOCAL_FILES}?d=FILE, got {name!r}")
        root = os.path.realpath(self.root)
        path = os.path.realpath(os.path.join(root, inside.lstrip("/")))
        if not Path(path).is_relative_to(root) or not os.path.isfile(path):
            raise Problem(422, f"no file {inside!r} below the folder of --label-studio")
        return Path(path)


def local_name(name: object) -> str:
    """The file that an address of local storage names; "" if it is no such address."""
    try:
        parts = urlsplit(name if isinstance(name, str) else "")
    except ValueError:  # as of "//["
        return ""
    if parts.scheme or parts.netloc or parts.path != LOCAL_FILES:
        return ""
    found = parse_qs(parts.query).get("d", [""])[0]
    return "" if "\0" in found else found


@dataclass(frozen=True)
class Control:
    """A tag of a labelling interface for videos.

    Attributes:
        kind: Choices or TimelineLabels.
        name, to_name: of the tag, and of the Video that it labels.
        key: of the task's data that holds the video.
        values: labels that the tag has.
    """

    kind: str
    name: str
    to_name: str
    key: str
    values: frozenset[str]


class Task(BaseModel):
    """A task of a project."""

    id: int | str | None = None
    data: dict[str, Any]


class PredictBody(BaseModel):
    """Tasks to predict, and the labelling interface of their project."""

    tasks: list[Task] = Field(max_length=MOST_TASKS)
    label_config: str = Field(max_length=LONGEST_CONFIG)


class SetupBody(BaseModel):
    """The labelling interface of a project."""

    label_schema: str = Field("", alias="schema", max_length=LONGEST_CONFIG)


class Result(BaseModel):
    """A prediction for a task; `error` says why there is none."""

    result: list[dict[str, Any]]
    score: float
    model_version: str
    error: str | None = None


class Results(BaseModel):
    """Predictions in the order of the tasks."""

    results: list[Result]
    model_version: str


class Up(BaseModel):
    """The backend runs."""

    status: str
    model_class: str


class Version(BaseModel):
    """The version of an adapter, which changes when it is replaced."""

    model_version: str


def label_studio_routes(service: Service, files: LabelStudioFiles | None) -> APIRouter:
    """The routes below /label-studio/NAME, which is the URL of the backend in Label Studio."""
    looking, reading = problems(LOOKING, ErrorAnswer), problems(READING, ErrorAnswer)
    routes = APIRouter(prefix="/label-studio/{name}", tags=["Label Studio"])

    @routes.get("/health", responses=looking)
    async def health(name: str) -> Up:
        """The backend runs."""
        service.adapters.get(name)
        return Up(status="UP", model_class="videossp")

    @routes.post("/setup", openapi_extra=described(SetupBody), responses=reading)
    async def setup(name: str, request: Request) -> Version:
        """Check the labelling interface of a project."""
        (adapter,) = service.chosen([name])
        body = await json_body(service, request, SetupBody)
        if body.label_schema:
            check_labels(await asyncio.to_thread(controls_of, body.label_schema), adapter)
        return Version(model_version=version_of(adapter))

    @routes.post("/predict", openapi_extra=described(PredictBody), responses=reading)
    async def predict(name: str, request: Request) -> Results:
        """Predictions for tasks, whose videos are files below the folder of --label-studio."""
        if files is None:
            raise Problem(403, "this service reads no local files: it was started without --label-studio")
        (adapter,) = service.chosen([name])
        body = await json_body(service, request, PredictBody)
        controls = await asyncio.to_thread(controls_of, body.label_config)
        work = all_predicted(service, files, adapter, controls, body.tasks)
        return Results(results=await unless_gone(request, work), model_version=version_of(adapter))

    return routes


async def all_predicted(
    service: Service, files: LabelStudioFiles, adapter: Adapter, controls: list[Control], tasks: list[Task]
) -> list[Result]:
    """The predictions for tasks, or the reasons why there are none.

    Raises:
        Problem: too many requests, or the service stops.
    """
    results = []
    for task in tasks:
        try:
            results.append(await predicted(service, files, adapter, controls, task))
        except Problem as problem:
            if problem.status in (429, 503):
                raise
            log.warning("Label Studio: task %s: %s", printable(str(task.id)), problem.detail)
            failed = Result(result=[], score=0.0, model_version=version_of(adapter), error=problem.detail)
            results.append(failed)
    return results


async def predicted(
    service: Service, files: LabelStudioFiles, adapter: Adapter, controls: list[Control], task: Task
) -> Result:
    """The prediction for a task."""
    found: list[dict[str, Any]] = []
    scores: list[float] = []
    rows: dict[Path, Tensor] = {}  # several tags may label one video
    jobs: dict[Path, Job] = {}
    for control in controls:
        path = files.find(task.data.get(control.key))
        common = {"from_name": control.name, "to_name": control.to_name, "type": control.kind.lower()}
        if control.kind == "Choices":
            if path not in rows:
                with service.gate.enter():
                    (rows[path],) = await service.probabilities([adapter], path, Timing())
            label, score = adapter.classifier.classes[int(rows[path].argmax())], float(rows[path].max())
            found.append({**common, "value": {"choices": [label]}, "score": score})
            scores.append(score)
            continue
        if path not in jobs:
            jobs[path] = await segments_of(service, adapter, path)
        job = jobs[path]
        if job.error or job.video is None:
            raise Problem(422, job.error or "the service is stopping")
        ranges = label_studio_ranges(job.segments, job.video)
        for segment, own in zip(job.segments, ranges, strict=True):
            value = {"ranges": [own], "timelinelabels": [segment.label]}
            found.append({**common, "value": value, "score": segment.probability})
            scores.append(segment.probability)
    return Result(result=found, score=sum(scores) / max(1, len(scores)), model_version=version_of(adapter))


async def segments_of(service: Service, adapter: Adapter, path: Path) -> Job:
    """A job for a file, at its end."""
    async with AsyncExitStack() as stack:
        stack.enter_context(service.jobs.gate.enter())
        job = service.jobs.start(adapter.name, adapter.classifier, path, stack)
    try:
        await job.finished.wait()
    finally:
        service.jobs.end(job)  # if the client is gone
    return job


def controls_of(config: str) -> list[Control]:
    """The tags Choices and TimelineLabels of a labelling interface that label a Video.

    Raises:
        Problem: it is no XML, or has none.
    """
    if "<!" in config.replace("<!--", ""):  # entities could grow without limit
        raise Problem(422, "the labelling interface must not have declarations, <!...>")
    try:
        root = ET.fromstring(config)
    except ET.ParseError as error:
        raise Problem(422, f"the labelling interface is no XML: {error}") from None
    keys = {x.get("name"): (x.get("value") or "").removeprefix("$") for x in root.iter("Video")}
    tags = [(kind, tag) for kind in ITEMS for tag in root.iter(kind)]
    if len(tags) > MOST_CONTROLS:
        raise Problem(
            422, f"the labelling interface has more than {MOST_CONTROLS} Choices and TimelineLabels"
        )
    found = []
    for kind, tag in tags:
        target, name = tag.get("toName"), tag.get("name")
        if target in keys and name:
            values = frozenset(x.get("value") or "" for x in tag.iter(ITEMS[kind]))
            found.append(Control(kind, name, target or "", keys[target], values))
    if not found:
        raise Problem(422, "the labelling interface has no Choices or TimelineLabels for a Video")
    return found


def check_labels(controls: list[Control], adapter: Adapter) -> None:
    """Raise a Problem if a tag lacks classes of the adapter, whose predictions it could not show."""
    for control in controls:
        missing = [x for x in adapter.classifier.classes if x not in control.values]
        if missing:
            raise Problem(
                422, f"{control.kind} {control.name} lacks classes of {adapter.name}: {', '.join(missing)}"
            )


def version_of(adapter: Adapter) -> str:
    """The name of an adapter and the time of change of its weights."""
    changed = adapter.state[1][1] // 10**9 if adapter.state else 0
    return f"{adapter.name}-{changed}"
