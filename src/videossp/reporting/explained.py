"""Explanations as parts of a page: picture, animation and figures."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from videossp.explanation.explanation import Explanation
from videossp.reporting.animation import write_animation
from videossp.reporting.heat_maps import draw_explanation, draw_mechanism
from videossp.reporting.page import escape, picture, table, write_page

HOW_TO_READ = (
    "<p>According to the map, orange patches raise the score of the explained class, and blue patches lower "
    "it. The bars show the effect of replacing a frame: an orange bar means that the log-probability of the "
    "class falls without the frame, a blue one that it rises. A drop of 0.7 nats halves the probability. An "
    "arrow (or a triangle, in a long clip) marks a frame without which another class is predicted.</p>"
)


def write_explanations(path: Path, parts: Sequence[str]) -> None:
    """Write a page of the parts of explanations, see `explained`; it contains all its pictures."""
    write_page(path, "Explanations of predictions", [HOW_TO_READ, *parts])


def explained(x: Explanation) -> list[str]:
    """Heading, picture, animation and figures of an explanation."""
    name = x.path or "clip"
    parts = [f"<h2>{escape(name)}</h2>", picture(f"map of {name}", partial(draw_explanation, x))]
    animate = partial(write_animation, x, suffix=".gif")
    parts.append(picture(f"animated map of {name}", animate, kind="gif"))
    parts.append(table(figures_of(x)))
    if x.mechanism:
        parts += [
            "<h3>Mechanism</h3>",
            picture(f"quantities of the model for {name}", partial(draw_mechanism, x)),
        ]
    return parts


def figures_of(x: Explanation) -> dict[str, str]:
    """The numbers of an explanation, as rows of a table."""
    shown = {
        "class probabilities": ", ".join(f"{k} {100 * p:.1f} %" for k, p in [*x.probabilities.items()][:3]),
        "explained class": x.target,
        "method": x.text,
        "logit of the clip - logit of the baseline": f"{x.change:.3f}",
    }
    if x.gap is not None:
        shown["sum of the map"] = f"{x.map.sum():.3f} (error {100 * x.gap:.1f} %)"
    if x.faithfulness is not None:
        own = x.faithfulness.insertion - x.faithfulness.deletion
        shown["insertion - deletion"] = f"{own:.2f}; of random orders {x.faithfulness.random:.2f}"
    return shown
