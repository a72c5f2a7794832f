"""`examine`: what is wrong with a data set, from its annotation to the frames of its files."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from videossp.data.datasets import VideoDataset, read_complaining
from videossp.data.datasets.read import Name
from videossp.data.doctor.checks import (
    CHECKS,
    DECODED,
    HASHED,
    LOOKS,
    PROBED,
    SEVERITIES,
    CheckContext,
    Finding,
    Member,
    Severity,
    select,
)
from videossp.data.doctor.probe import Probe, probe_all


@dataclass(frozen=True)
class Diagnosis:
    """What came of an examination.

    Attributes:
        samples: the data set, without the lines of the annotation that are wrong.
        findings: errors first, then warnings; among those in the order of `CHECKS` and of the data.
        checks: ids of what was looked for.
    """

    samples: VideoDataset
    findings: tuple[Finding, ...]
    checks: tuple[str, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return tuple(x for x in self.findings if x.severity == "error")

    @property
    def counts(self) -> dict[Severity, int]:
        """Findings by severity."""
        return {severity: sum(x.severity == severity for x in self.findings) for severity in SEVERITIES}

    def clean(self) -> list[Member]:
        """The samples that no error blames. Of a video that is listed twice the first line counts."""
        blamed = {(x.split, name) for x in self.errors if x.check != "name.collision" for name in x.videos}
        return [x for x in self.samples.every() if not {(x[0], x[1].name), ("", x[1].name)} & blamed]


def examine(
    data: str | Path,
    *,
    format: Name = "auto",
    fold: int = 1,
    videos: str | Path | None = None,
    frames: int = 8,
    fast: bool = False,
    timeout: float = 60.0,
    workers: int | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    progress: bool = False,
) -> Diagnosis:
    """Look for what is wrong with a data set.

    Files are read in processes: a script that calls this needs `if __name__ == "__main__":`.

    Args:
        data, format, fold, videos: see `read_data`.
        frames: of the clip that a classifier will take.
        fast: decode nothing: what is cut short is found, what is damaged inside or frozen is not.
        timeout: seconds for each file.
        workers: processes; None: one for each core.
        only: checks to do: ids, or what they begin with ("file", "split.leak"); empty: all.
        skip: checks to leave out.
        progress: show a bar on stderr if that is a terminal.

    Raises:
        DataError: the data set cannot be read at all.
        ValueError: an unknown check.
    """
    left_out = {*select(skip), *(["clip.frozen"] if fast else [])}
    checks = [x for x in (select(only) if only else CHECKS) if x not in left_out]
    if not checks:
        raise ValueError("no check is left to do")
    samples, complaints = read_complaining(data, format=format, fold=fold, videos=videos)
    probes: list[Probe] = []
    if PROBED & {*checks}:
        stream = probe_all(
            [x for _, x in samples.every()],
            frames=frames,
            decode=not fast and bool(DECODED & {*checks}),
            hashed=bool(HASHED & {*checks}),
            timeout=timeout,
            workers=workers,
            progress=progress,
        )
        with closing(stream):
            probes = list(stream)
    case = CheckContext(samples, complaints, probes, frames)
    found = [x for ids, look in LOOKS if ids & {*checks} for x in look(case) if x.check in checks]
    order = list(CHECKS)
    found.sort(key=lambda x: (SEVERITIES.index(x.severity), order.index(x.check)))
    return Diagnosis(samples, tuple(found), tuple(checks))
