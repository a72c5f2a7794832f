"""`Segmenter`: the best cut of a recording into windows, by dynamic programming, while it is read."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from videossp.watching.grid import Grid

NOTHING = 0.8  # cost of a second without a class; measured in docs/watch.md
Gain = Callable[[Sequence[float], float], float]


@dataclass(frozen=True)
class Piece:
    """A window of the best cut, or several that were joined.

    Attributes:
        first, stop: grid points.
        label: of the class.
        probability: of the class; of joined pieces the mean over their time.
    """

    first: int
    stop: int
    label: int
    probability: float


@dataclass(frozen=True)
class _Node:
    """The best cut up to a grid point: its score, the point before it, the piece between or None: nothing."""

    score: float
    before: int
    piece: Piece | None


def log_probability(probabilities: Sequence[float], seconds: float) -> float:
    """The score of a window: the log probability of its class, for each of its seconds."""
    return seconds * math.log(max(*probabilities, 1e-12))


class Segmenter:
    """Cuts a session into pieces that are windows, and stretches of nothing.

    The best cut has the largest sum of the scores of its pieces; a second of nothing costs `nothing`. A piece
    is given out as soon as every best cut that is still possible contains it.

    Args:
        grid: the windows.
        nothing: cost of a second of nothing. A window whose class has a probability below exp(-nothing) is
            not worth a piece.
        join: join neighbouring pieces of one class.
        patience: grid points after which a piece is given out even if a later window could still change it,
            and half of those after which joined pieces are; None: never.
        gain: the score of a window by the probabilities of its classes and its seconds.

    Raises:
        ValueError: the cost is negative.
    """

    def __init__(
        self,
        grid: Grid,
        nothing: float = NOTHING,
        *,
        join: bool = True,
        patience: int | None = None,
        gain: Gain = log_probability,
    ) -> None:
        if not 0 <= nothing < math.inf:
            raise ValueError(f"the cost of a second of nothing must be at least 0, got {nothing}")
        self.grid, self.join, self.gain = grid, join, gain
        self.patience = None if patience is None else max(patience, grid.longest + 1)
        self._idle = nothing * grid.hop_seconds
        self._nodes: dict[int, _Node] = {0: _Node(0.0, 0, None)}
        self._ending: dict[int, list[tuple[float, Piece]]] = {}  # windows by the point at which they end
        self._point = self._fixed = 0
        self._open: Piece | None = None  # the last fixed piece, which may be joined to the next

    def add(self, first: int, stop: int, probabilities: Sequence[float]) -> list[Piece]:
        """Add the probabilities of a window; windows come in the order of their ends.

        Returns:
            The pieces that are certain now, in order.
        """
        ready = self.advance(stop - 1)
        label = int(np.argmax(probabilities))
        piece = Piece(first, stop, label, float(probabilities[label]))
        score = self.gain(probabilities, (stop - first) * self.grid.hop_seconds)
        self._ending.setdefault(stop, []).append((score, piece))
        return ready

    def advance(self, point: int) -> list[Piece]:
        """Say that no more windows end at this grid point or before it; returns pieces as `add` does."""
        ready: list[Piece] = []
        while self._point < point:
            self._point += 1
            ready += self._extend()
            if self._open and self.patience and self._point - self._open.first >= 2 * self.patience:
                ready.append(self._open)
                self._open = None
        return ready

    def finish(self, point: int) -> list[Piece]:
        """End the session at a grid point; returns all remaining pieces."""
        ready = [*self.advance(point), *self._fix(self._point)]
        if self._open:
            ready.append(self._open)
            self._open = None
        return ready

    def _extend(self) -> list[Piece]:
        """The best cut up to the current point, and the pieces that it makes certain."""
        point, nodes = self._point, self._nodes
        best = _Node(nodes[point - 1].score - self._idle, point - 1, None)
        for score, piece in self._ending.pop(point, ()):
            start = nodes.get(piece.first)  # gone: the cut before it is given out already
            if start and start.score + score > best.score:
                best = _Node(start.score + score, piece.first, piece)
        nodes[point] = best
        if self.patience is not None and point - self._fixed > self.patience:
            return self._force()
        # A later piece starts at one of these points. Where all their cuts meet, nothing can change.
        reachable = {x for x in range(point + 1 - self.grid.longest, point + 1) if x in nodes}
        while len(reachable) > 1:
            latest = max(reachable)
            reachable.discard(latest)
            reachable.add(nodes[latest].before)
        (meeting,) = reachable
        return self._fix(meeting)

    def _force(self) -> list[Piece]:
        """Give out the best cut that there is now up to the first point that is too old to wait."""
        place = self._point
        while self._nodes[place].before > self._fixed:
            place = self._nodes[place].before
        for x in range(self._fixed + 1, place):
            self._nodes.pop(x, None)
        keep: set[int] = set()
        for x in sorted(self._nodes):
            if x == place or (x > place and self._nodes[x].before in keep):
                keep.add(x)
        ready = self._fix(place)
        for x in [x for x in self._nodes if x not in keep]:
            del self._nodes[x]
        return ready

    def _fix(self, point: int) -> list[Piece]:
        """Give out the pieces of the cut up to a point, and forget all before it."""
        found: deque[Piece] = deque()
        place = point
        while place > self._fixed:
            node = self._nodes[place]
            if node.piece:
                found.appendleft(node.piece)
            place = node.before
        for x in range(self._fixed, point):
            self._nodes.pop(x, None)
        self._nodes[point] = replace(self._nodes[point], before=point, piece=None)
        self._fixed = point
        return self._joined(found, point) if self.join else [*found]

    def _joined(self, pieces: deque[Piece], point: int) -> list[Piece]:
        """Join neighbours of one class; the last piece waits for its neighbour."""
        ready: list[Piece] = []
        for piece in pieces:
            last = self._open
            if last and last.stop == piece.first and last.label == piece.label:
                before, after = last.stop - last.first, piece.stop - piece.first
                mean = (last.probability * before + piece.probability * after) / (before + after)
                self._open = Piece(last.first, piece.stop, piece.label, mean)
            else:
                ready += [last] if last else []
                self._open = piece
        if self._open and self._open.stop < point:  # nothing follows
            ready.append(self._open)
            self._open = None
        return ready
