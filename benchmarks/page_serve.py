"""The tables of docs/serve.md, from benchmarks/results/serve.json."""

import statistics
from typing import Any

from page_explain import table
from records import RESULTS, read

Row = dict[str, Any]


def rows_of(kind: str) -> list[Row]:
    return [x for x in read(RESULTS / "serve.json") if x["kind"] == kind]


def serving() -> str:
    """Requests per second and latency by method, adapters and clients."""
    header = [
        "method",
        "adapters",
        "clients",
        "requests/s",
        "p50",
        "p95",
        "p99",
        "requests in a pass",
        "memory",
    ]
    lines = [
        [
            x["method"],
            str(x["adapters"]),
            str(x["clients"]),
            f"{x['per_second']:.1f}",
            *(f"{x[f'p{p}_ms']:.0f} ms" for p in (50, 95, 99)),
            f"{x['batch']:.1f}",
            f"{x['memory_mb']:.0f} MB",
        ]
        for x in rows_of("load")
    ]
    return table(header, lines)


def batching() -> str:
    """The gain of batching, and the growth of memory, as sentences."""
    pairs, soaks = rows_of("batching"), rows_of("soak")
    if not pairs or not soaks:
        return "Not measured yet."
    ratios = [x["ratio"] for x in pairs]
    (soak,) = soaks
    batched, alone = (statistics.median(x[name] for x in pairs) for name in ("batched", "one_at_a_time"))
    four = [
        f"{x['one_ms']:.0f} ms in one request and {x['four_ms']:.0f} ms in four ({x['method']})"
        for x in rows_of("shared")
    ]
    sent, growth = soak["requests"], soak["growth_mb"]
    return (
        "Batching: with 16 clients and one adapter of SSP, passes of up to 8 requests answer "
        f"{statistics.median(ratios):.1f} times as many requests per second as one request at a time "
        f"({batched:.1f} and {alone:.1f} per second; median of {len(pairs)} pairs of neighbouring runs, "
        f"{min(ratios):.1f} to {max(ratios):.1f}).\n\n"
        f"Four adapters for one video, from a single client: {', '.join(four)}.\n\n"
        f"Memory: over {sent:,} requests of 4 clients, of which a tenth are broken files, the resident "
        f"memory changed by {growth:+.1f} MB (`python benchmarks/serve.py demo --soak {sent}`)."
    )
