"""`Segment`: a stretch of a recording and its class."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording and its class.

    Attributes:
        start, end: seconds from the first frame of the recording.
        label: the class.
        probability: of the class, of the window, or the mean of the windows that make the segment.
        start_time, end_time: the same by the clock of this computer, for a live source; else None.
    """

    start: float
    end: float
    label: str
    probability: float
    start_time: datetime | None = None
    end_time: datetime | None = None

    def record(self) -> dict[str, Any]:
        """The segment as a JSON object: seconds to the millisecond, times of day in ISO 8601."""
        found: dict[str, Any] = {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "label": self.label,
            "probability": round(self.probability, 6),
        }
        if self.start_time and self.end_time:
            found["start_time"] = self.start_time.isoformat(timespec="milliseconds")
            found["end_time"] = self.end_time.isoformat(timespec="milliseconds")
        return found
