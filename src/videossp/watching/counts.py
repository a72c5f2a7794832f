"""`Counts`: numbers of frames and windows that were read so far, and the lag of a live source."""

from dataclasses import dataclass


@dataclass
class Counts:
    """What was read so far.

    Attributes:
        seconds: of the source.
        frames: decoded.
        prepared: frames converted for windows.
        windows: classified.
        dropped: frames of a live source that there was no time for.
        left_out: windows that were not classified: of dropped or damaged frames, or because a live source
            has newer ones.
        damaged: frames or packets of a stream that could not be decoded.
        reconnected: connections after the first one.
        lag: of a live source, the largest age of the newest frame of a window when its result was there, in
            seconds.
    """

    seconds: float = 0.0
    frames: int = 0
    prepared: int = 0
    windows: int = 0
    dropped: int = 0
    left_out: int = 0
    damaged: int = 0
    reconnected: int = 0
    lag: float = 0.0

    def line(self, live: bool) -> str:
        """The counts for people."""
        text = f"{self.seconds:,.0f} s, {self.frames:,} frames, {self.windows:,} windows"
        if live:
            text += f", {self.dropped:,} frames dropped, largest lag {self.lag:.1f} s"
        extra = {"windows left out": self.left_out, "damaged": self.damaged, "reconnected": self.reconnected}
        return text + "".join(f", {count:,} {name}" for name, count in extra.items() if count)
