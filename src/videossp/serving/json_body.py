"""JSON bodies of limited size: FastAPI itself would read a body of any size into memory."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from videossp.serving.problem import Problem
from videossp.serving.service import Service, Timing

MOST = 2_000_000  # bytes of a body that holds no video
Body = TypeVar("Body", bound=BaseModel)


async def json_body(
    service: Service,
    request: Request,
    kind: type[Body],
    most: int = MOST,
    before: Callable[[], object] = lambda: None,
) -> Body:
    """The JSON body of a request.

    Args:
        service: receives it.
        request: whose body is read.
        kind: of the body.
        most: bytes.
        before: called when the body is received, before it is parsed in memory.

    Raises:
        Problem: it is too large, or not as `kind` says.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "the body must be JSON, with Content-Type: application/json")
    async with service.uploaded(request, most, Timing()) as path:
        before()
        try:
            return await asyncio.to_thread(lambda: kind.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise Problem(422, f"{place or 'body'}: {first['msg']}") from None


def described(kind: type[BaseModel]) -> dict[str, Any]:
    """A JSON body of this kind, for OpenAPI."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined(kind)}}}}


def inlined(kind: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a kind, with the schemas of its parts in place of references to them."""
    schema = kind.model_json_schema()
    parts = schema.pop("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            if name := value.get("$ref"):
                return resolved(parts[name.rpartition("/")[2]])
            return {key: resolved(x) for key, x in value.items()}
        return [resolved(x) for x in value] if isinstance(value, list) else value

    found: dict[str, Any] = resolved(schema)
    return found
