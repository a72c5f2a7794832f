"""Predictions as rows: one for each video and adapter."""

from collections.abc import Mapping
from typing import Any

from videossp.inference.predict import Prediction


def row_of(prediction: Prediction, top: int, adapter: str | None = None) -> dict[str, Any]:
    """{"path", "adapter", "error", "top": [{"class", "probability"}, ...]}, as a record of JSON Lines.

    Args:
        top: most classes to list.
        adapter: name of the adapter; None leaves it out.
    """
    ranked = [*prediction.probabilities.items()][:top]
    named = {} if adapter is None else {"adapter": adapter}
    classes = [{"class": name, "probability": p} for name, p in ranked]
    return {"path": prediction.path, **named, "error": prediction.error, "top": classes}


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the columns of `columns_of`, for tables."""
    ranked = {f"{key}_{i}": x[key] for i, x in enumerate(row["top"], 1) for key in ("class", "probability")}
    return {name: x for name, x in row.items() if name != "top"} | ranked


def columns_of(top: int, *, several: bool = False) -> dict[str, type]:
    """Names and types of the columns: path, adapter (of several), error, class_1, probability_1, ..."""
    columns: dict[str, type] = {"path": str, **({"adapter": str} if several else {}), "error": str}
    for i in range(1, top + 1):
        columns |= {f"class_{i}": str, f"probability_{i}": float}
    return columns
