"""`examine`: check a data set, from its annotation to the frames of its files."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from videossp.data.datasets import VideoDataset, read_with_problems
from videossp.data.datasets.read import Name
from videossp.data.doctor.checks import (
    CHECK_FUNCTIONS,
    CHECKS,
    DECODED,
    EMBEDDED,
    HASHED,
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
    """The result of `examine`.

    Attributes:
        samples: the data set, without the wrong lines of the annotation.
        findings: the problems: errors first, then warnings, then infos, each in the order of `CHECKS`.
        checks: ids of the checks that ran.
    """

    samples: VideoDataset
    findings: tuple[Finding, ...]
    checks: tuple[str, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings of severity "error"."""
        return tuple(x for x in self.findings if x.severity == "error")

    @property
    def counts(self) -> dict[Severity, int]:
        """Number of findings by severity."""
        return {severity: sum(x.severity == severity for x in self.findings) for severity in SEVERITIES}

    def clean(self) -> list[Member]:
        """(split, sample) of the samples without errors. A video that is listed twice is kept once."""
        bad = {(x.split, name) for x in self.errors if x.check != "name.collision" for name in x.videos}
        return [x for x in self.samples.all_samples() if not {(x[0], x[1].name), ("", x[1].name)} & bad]


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
    only: str | Sequence[str] = (),
    skip: str | Sequence[str] = (),
    near_duplicates: Callable[[VideoDataset], Iterable[Finding]] | None = None,
    progress: bool = False,
) -> Diagnosis:
    """Check a data set for problems.

    Files are read in worker processes: a script that calls this needs `if __name__ == "__main__":`.

    Args:
        data, format, fold, videos: see `read_data`.
        frames: number of frames of the clips that will be used.
        fast: decode only first frames, where they must show from which frame on decoding is possible.
            Truncated files are found, damage inside a file and frozen videos are not.
        timeout: seconds per file.
        workers: number of worker processes; None: one per core.
        only: ids of the checks to run, or the beginning of ids ("file", "split.leak"); empty: all.
        skip: ids of checks to skip.
        near_duplicates: does the check split.leak-near-duplicate, see `near_duplicate_findings`; None: it is
            not done.
        progress: show a progress bar if stderr is a terminal.

    Raises:
        DataError: the data set cannot be read at all.
        ValueError: an unknown check, or none left.
    """
    only, skip = ([x] if isinstance(x, str) else x for x in (only, skip))  # not the letters of one id
    if near_duplicates is None and (wanted := EMBEDDED & {*select(only)}) == {*select(only)} and wanted:
        raise ValueError(
            f"{', '.join(wanted)} needs a file of embeddings (near_duplicates, --near-duplicates)"
        )
    skipped = {*select(skip), *(["clip.frozen"] if fast else [])}
    skipped |= EMBEDDED if near_duplicates is None else set()
    checks = [x for x in (select(only) if only else CHECKS) if x not in skipped]
    if not checks:
        raise ValueError("no check is left to run")
    samples, problems = read_with_problems(data, format=format, fold=fold, videos=videos)
    probes: list[Probe] = []
    if PROBED & {*checks}:
        stream = probe_all(
            [x for _, x in samples.all_samples()],
            frames=frames,
            decode=not fast and bool(DECODED & {*checks}),
            hashed=bool(HASHED & {*checks}),
            timeout=timeout,
            workers=workers,
            progress=progress,
        )
        with closing(stream):
            probes = list(stream)
    context = CheckContext(samples, problems, probes, frames)
    functions = [function for ids, function in CHECK_FUNCTIONS if ids & {*checks}]
    findings = [x for function in functions for x in function(context) if x.check in checks]
    if near_duplicates is not None and EMBEDDED & {*checks}:
        findings += near_duplicates(samples)
    order = list(CHECKS)
    findings.sort(key=lambda x: (SEVERITIES.index(x.severity), order.index(x.check)))
    return Diagnosis(samples, tuple(findings), tuple(checks))
