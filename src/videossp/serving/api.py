"""`make_app`: the web app: the routes below /v1, health checks, metrics, the page and compatible routes."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from videossp.errors import OutOfMemoryError
from videossp.explanation.explain import ExplainSettings
from videossp.serving.answers import (
    AdapterFolders,
    ErrorAnswer,
    ExplanationAnswer,
    Health,
    JobAnswer,
    Limits,
    ModelInfo,
    Models,
    ModelScores,
    NewAdapter,
    Score,
    Vector,
)
from videossp.serving.guard import OPEN, Guard, refusal
from videossp.serving.json_body import described, json_body
from videossp.serving.kserve import kserve_routes
from videossp.serving.label_studio import LabelStudioFiles, label_studio_routes
from videossp.serving.pages import add_pages
from videossp.serving.problem import LOOKING, READING, Problem, problems
from videossp.serving.results_as_answers import explanation_answer, info_of, job_answer, ranked
from videossp.serving.service import Service, Timing
from videossp.serving.uploaded_video import SHOWN
from videossp.system.printable import printable

VIDEO = {
    "requestBody": {
        "required": True,
        "description": f"the file itself: {SHOWN}",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("application/octet-stream", "video/mp4", "video/webm")
        },
    }
}
# Answers besides the result, for OpenAPI.
ALWAYS = problems((401, 403), ErrorAnswer)
LOOKED_UP, WITH_VIDEO = problems(LOOKING, ErrorAnswer), problems(READING, ErrorAnswer)
MOST_CLASSES = 100_000
ModelNames = Annotated[
    list[str], Query(alias="model", min_length=1, max_length=64, description="name of an adapter; repeatable")
]
ModelName = Annotated[str, Query(alias="model", description="name of an adapter")]
TopK = Annotated[int, Query(ge=1, le=MOST_CLASSES, description="most classes in the answer")]


def make_app(
    service: Service,
    *,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    label_studio: LabelStudioFiles | None = None,
) -> FastAPI:
    """The app of a service, whose life is that of the app.

    Args:
        service: computes.
        token, hosts: see `Guard`.
        label_studio: the files that tasks of Label Studio may name; None: none.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="videossp",
        version=version("videossp"),
        description="Classes of videos, by adapters on frozen VideoMamba backbones.",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        # A redirection would name the host and scheme of this process, which a proxy may hide.
        redirect_slashes=False,
        dependencies=[Depends(refuse_unknown_parameters)],
        servers=[{"url": "."}],  # relative to the document, so that a path prefix of a proxy stays
        # FastAPI's own answer to wrong parameters is replaced below.
        responses={422: {"model": ErrorAnswer}},
    )
    add_errors(app)
    add_health(app, service)
    add_models(app, service)
    add_videos(app, service)
    add_jobs(app, service)
    app.include_router(kserve_routes(service))
    app.include_router(label_studio_routes(service, label_studio))
    add_pages(app)
    if token is not None:
        add_security(app)
    app.add_middleware(Guard, metrics=service.metrics, token=token, hosts=hosts)
    return app


async def refuse_unknown_parameters(request: Request) -> None:
    """Refuse a parameter that the route does not have: a misspelt one would be ignored.

    Raises:
        Problem: there is one.
    """
    route = request.scope.get("route")
    if isinstance(route, APIRoute) and route.path.startswith("/v1/"):
        known = [x.alias for x in route.dependant.query_params]
        for name in request.query_params:
            if name not in known:
                raise Problem(422, f"no parameter {name!r}; there are {', '.join(known) or 'none'}")


def add_errors(app: FastAPI) -> None:
    """One line for each error."""

    def answer(
        request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None
    ) -> JSONResponse:
        return refusal(request.scope, status, detail, headers)

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> JSONResponse:
        return answer(request, error.status, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(x) for x in first["loc"][1:])
        return answer(request, 422, printable(f"{place}: {first['msg']}" if place else first["msg"]))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return answer(request, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(FloatingPointError)
    async def not_finite(request: Request, error: FloatingPointError) -> JSONResponse:
        return answer(request, 500, str(error))

    @app.exception_handler(OutOfMemoryError)
    async def memory(request: Request, error: OutOfMemoryError) -> JSONResponse:
        return answer(request, 503, str(error), {"Retry-After": "1"})


def add_security(app: FastAPI) -> None:
    """Tell in the OpenAPI document that requests carry a token."""
    usual = app.openapi

    def openapi() -> dict[str, Any]:
        document = usual()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["bearer"] = {"type": "http", "scheme": "bearer"}
        for path, operations in document["paths"].items():
            if not path.startswith(OPEN):
                for operation in operations.values():
                    operation["security"] = [{"bearer": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def add_health(app: FastAPI, service: Service) -> None:
    """Health checks and metrics."""

    @app.head("/health/live", include_in_schema=False)
    @app.get("/health/live", tags=["health"], summary="Liveness")
    async def live() -> Health:
        """The process runs."""
        return Health(status="live")

    @app.head("/health/ready", include_in_schema=False)
    @app.get("/health/ready", tags=["health"], summary="Readiness", responses=problems((503,), ErrorAnswer))
    async def ready() -> Health:
        """Requests are taken."""
        if not service.ready:
            raise Problem(503, "the service is stopping, or has failed; its log says why")
        return Health(status="ready")

    text: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @app.get(
        "/metrics",
        tags=["health"],
        summary="Metrics",
        response_class=Response,
        responses=text | ALWAYS,
    )
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def add_models(app: FastAPI, service: Service) -> None:
    """The adapters: which there are, loading and unloading."""
    adapters, limits = service.adapters, service.settings

    @app.get(
        "/v1/models",
        tags=["adapters"],
        summary="List adapters",
        responses=ALWAYS,
    )
    async def models() -> Models:
        """All adapters, and the limits of the service."""
        shown = Limits.model_validate(limits, from_attributes=True)
        return Models(models=[info_of(x) for x in adapters.all()], limits=shown)

    @app.get(
        "/v1/models/{name}",
        tags=["adapters"],
        summary="Describe an adapter",
        responses=LOOKED_UP,
    )
    async def model(name: str) -> ModelInfo:
        """One adapter."""
        return info_of(adapters.get(name))

    @app.get(
        "/v1/adapters",
        tags=["adapters"],
        summary="List adapters that can be loaded",
        responses=ALWAYS,
    )
    def folders() -> AdapterFolders:
        """Folders below --adapters that can be loaded."""
        return AdapterFolders(folders=adapters.folders_below())

    @app.post(
        "/v1/adapters",
        tags=["adapters"],
        summary="Load an adapter",
        status_code=201,
        openapi_extra=described(NewAdapter),
        responses=problems((*READING, 409), ErrorAnswer),
    )
    async def load(request: Request) -> ModelInfo:
        """Load an adapter from a folder below --adapters."""
        new = await json_body(service, request, NewAdapter)
        return info_of(await service.load(new.folder, new.name))

    @app.delete(
        "/v1/adapters/{name}",
        tags=["adapters"],
        summary="Unload an adapter",
        status_code=204,
        responses=LOOKED_UP,
    )
    async def unload(name: str) -> None:
        """Unload an adapter. Its files stay."""
        if adapters.below is None:
            raise Problem(403, "this service unloads no adapters: it was started without --adapters")
        await service.unload(name)


def add_videos(app: FastAPI, service: Service) -> None:
    """Predictions, embeddings and explanations of a video."""

    @app.post(
        "/v1/models/{name}/predict",
        tags=["videos"],
        summary="Predict with one adapter",
        openapi_extra=VIDEO,
        responses=WITH_VIDEO,
    )
    async def predict(name: str, request: Request, response: Response, top_k: TopK = 5) -> list[Score]:
        """The most probable classes of a video, as in the task video-classification of Hugging Face."""
        timing = Timing()
        chosen = service.chosen([name])
        (scores,) = await service.predict(chosen, request, timing)
        response.headers["Server-Timing"] = timing.header()
        return ranked(scores, chosen[0], top_k)

    @app.post(
        "/v1/predict",
        tags=["videos"],
        summary="Predict with several adapters",
        openapi_extra=VIDEO,
        responses=WITH_VIDEO,
    )
    async def predict_many(
        models: ModelNames, request: Request, response: Response, top_k: TopK = 5
    ) -> list[ModelScores]:
        """The most probable classes of a video by several adapters. It is decoded once."""
        timing = Timing()
        chosen = service.chosen(models)
        found = await service.predict(chosen, request, timing)
        response.headers["Server-Timing"] = timing.header()
        return [
            ModelScores(model=x.name, predictions=ranked(scores, x, top_k))
            for x, scores in zip(chosen, found, strict=True)
        ]

    @app.post(
        "/v1/embed",
        tags=["videos"],
        summary="Embed a video",
        openapi_extra=VIDEO,
        responses=WITH_VIDEO,
    )
    async def embed(
        model: ModelName,
        request: Request,
        response: Response,
        features: Literal["cls", "mean", "moments"] = "cls",
    ) -> Vector:
        """The feature vector of a video, see docs/embed.md."""
        timing = Timing()
        vector = await service.embed(model, features, request, timing)
        response.headers["Server-Timing"] = timing.header()
        return Vector(model=model, features=features, vector=vector.tolist())

    @app.post(
        "/v1/explain",
        tags=["videos"],
        summary="Explain a prediction",
        openapi_extra=VIDEO,
        responses=WITH_VIDEO,
    )
    async def explain(
        model: ModelName,
        request: Request,
        response: Response,
        target: Annotated[str | None, Query(alias="class", description="default: the most probable")] = None,
        method: Literal["integrated_gradients", "occlusion"] = "integrated_gradients",
        baseline: Literal["both", "mean_colour", "median_frame"] = "both",
        steps: Annotated[int, Query(ge=1, le=64)] = 16,
        top_k: TopK = 5,
    ) -> ExplanationAnswer:
        """Which patches and frames of a video a prediction depends on, see docs/explain.md."""
        timing = Timing()
        settings = ExplainSettings(method, baseline, steps)
        found = await service.explain(model, target, settings, request, timing)
        response.headers["Server-Timing"] = timing.header()
        return explanation_answer(model, found, top_k)


def add_jobs(app: FastAPI, service: Service) -> None:
    """Long videos."""

    @app.post(
        "/v1/jobs",
        tags=["jobs"],
        summary="Start a job",
        status_code=202,
        openapi_extra=VIDEO,
        responses=WITH_VIDEO,
    )
    async def start(
        model: ModelName,
        request: Request,
        response: Response,
        window: Annotated[float | None, Query(ge=0.001, le=86400, description="seconds of a window")] = None,
        hop: Annotated[float | None, Query(ge=0.001, le=86400, description="seconds between windows")] = None,
    ) -> JobAnswer:
        """Find the segments of a long video, see docs/watch.md. The answer has the id of the job."""
        job = await service.start_job(model, window, hop, request, Timing())
        response.headers["Location"] = f"jobs/{job.id}"  # relative: a proxy may add a prefix
        return job_answer(job)

    @app.get(
        "/v1/jobs/{id}",
        tags=["jobs"],
        summary="Show a job",
        responses=LOOKED_UP,
    )
    async def job(id: str) -> JobAnswer:
        """Progress, and the segments found so far."""
        return job_answer(service.jobs.get(id))

    @app.delete(
        "/v1/jobs/{id}",
        tags=["jobs"],
        summary="Cancel a job",
        responses=LOOKED_UP,
    )
    async def cancel(id: str) -> JobAnswer:
        """Cancel a job. The segments found so far stay."""
        return job_answer(service.jobs.cancel(id))
