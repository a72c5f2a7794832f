"""`kserve_routes`: the Open Inference Protocol (KServe v2) over REST, with videos as base64."""

import asyncio
import base64
import binascii
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from torch import Tensor

from videossp.serving.adapters import Adapter
from videossp.serving.json_body import described, json_body
from videossp.serving.problem import LOOKING, READING, Problem, problems
from videossp.serving.service import Service, Timing, unless_gone

MOST_VIDEOS = 8
SLACK = 100_000  # bytes of a request besides its videos


class V2Error(BaseModel):
    """Why a request has no result."""

    error: str


class V2Live(BaseModel):
    """Whether the server runs."""

    live: bool


class V2Ready(BaseModel):
    """Whether the server takes requests."""

    ready: bool


class V2Server(BaseModel):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class V2Shape(BaseModel):
    """An input or output; -1: any number."""

    name: str
    datatype: str
    shape: list[int]


class V2Model(BaseModel):
    """A model and its inputs and outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[V2Shape]
    outputs: list[V2Shape]


class V2ModelReady(BaseModel):
    """Whether a model takes requests."""

    name: str
    ready: bool


class V2Input(BaseModel):
    """Videos, each as a whole file in base64."""

    name: Literal["video"]
    datatype: Literal["BYTES"]
    shape: list[int] = Field(min_length=1, max_length=1)
    data: list[str] = Field(min_length=1, max_length=MOST_VIDEOS)


class V2Request(BaseModel):
    """A request for the probabilities of videos."""

    id: str | None = Field(None, max_length=200)
    inputs: list[V2Input] = Field(min_length=1, max_length=1)


class V2Output(BaseModel):
    """A tensor, its values row by row."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class V2Response(BaseModel):
    """Probabilities (videos, classes), and the most probable classes."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[V2Output]


def kserve_routes(service: Service) -> APIRouter:
    """The routes below /v2."""
    looking, always = problems(LOOKING, V2Error), problems((401, 403), V2Error)
    routes = APIRouter(prefix="/v2", tags=["KServe v2"], responses=problems((422,), V2Error))

    @routes.get("", responses=always)
    async def server() -> V2Server:
        """The server."""
        return V2Server(name="videossp", version=version("videossp"), extensions=[])

    @routes.get("/health/live", responses=always)
    async def live() -> V2Live:
        """The process runs."""
        return V2Live(live=True)

    @routes.get("/health/ready", responses=always | problems((503,), V2Error))
    async def ready() -> V2Ready:
        """Requests are taken."""
        if not service.ready:
            raise Problem(503, "the service is stopping, or has failed; its log says why")
        return V2Ready(ready=True)

    @routes.get("/models/{name}", responses=looking)
    async def model(name: str) -> V2Model:
        """The inputs and outputs of an adapter."""
        classes = len(service.adapters.get(name).classifier.classes)
        return V2Model(
            name=name,
            versions=["1"],
            platform="videossp",
            inputs=[V2Shape(name="video", datatype="BYTES", shape=[-1])],
            outputs=[
                V2Shape(name="probabilities", datatype="FP32", shape=[-1, classes]),
                V2Shape(name="label", datatype="BYTES", shape=[-1]),
            ],
        )

    @routes.get("/models/{name}/ready", responses=looking | problems((503,), V2Error))
    async def model_ready(name: str) -> V2ModelReady:
        """Whether an adapter takes requests."""
        service.chosen([name])
        return V2ModelReady(name=name, ready=True)

    @routes.post(
        "/models/{name}/infer", openapi_extra=described(V2Request), responses=problems(READING, V2Error)
    )
    async def infer(name: str, request: Request) -> V2Response:
        """The probabilities of videos."""
        (adapter,) = service.chosen([name])
        limit = service.settings.max_bytes * 4 // 3 + SLACK
        service.gate.check()
        with ExitStack() as stack:
            enter = partial(stack.enter_context, service.gate.enter())
            body = await json_body(service, request, V2Request, limit, enter)
            number, videos = body.id, body.inputs[0].data
            if body.inputs[0].shape != [len(videos)]:
                raise Problem(422, f"inputs.0.shape: {body.inputs[0].shape} for {len(videos)} videos")
            del body
            scores = await unless_gone(request, probabilities(service, adapter, videos))
        classes = adapter.classifier.classes
        return V2Response(
            model_name=name,
            model_version="1",
            id=number,
            outputs=[
                V2Output(
                    name="probabilities",
                    datatype="FP32",
                    shape=[len(scores), len(classes)],
                    data=[p for x in scores for p in x.tolist()],
                ),
                V2Output(
                    name="label",
                    datatype="BYTES",
                    shape=[len(scores)],
                    data=[classes[int(x.argmax())] for x in scores],
                ),
            ],
        )

    return routes


async def probabilities(service: Service, adapter: Adapter, videos: list[str]) -> list[Tensor]:
    """The probabilities of videos in base64; their texts are dropped one after the other."""
    found: list[Tensor] = []
    while videos:
        content = await asyncio.to_thread(decoded, videos.pop(0))
        with service.uploads.stored(content) as file:
            del content
            found += await service.probabilities([adapter], file, Timing())
    return found


def decoded(text: str) -> bytes:
    """The bytes of base64.

    Raises:
        Problem: it is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Problem(422, "inputs.0.data: a video must be in base64") from None
