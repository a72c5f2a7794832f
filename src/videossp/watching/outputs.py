"""Files of segments: CSV, JSON lines, WebVTT, ELAN and Label Studio."""

import csv
import io
import json
import mimetypes
from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

from videossp.data.datasets.write import check_new_file
from videossp.data.video import Video
from videossp.errors import DataError
from videossp.system.files import atomic_write
from videossp.system.printable import printable
from videossp.watching.segment import Segment

SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"


def csv_text(segments: Sequence[Segment], source: str, video: Video | None) -> str:
    """Columns start, end, label, probability; for a live source also start_time and end_time."""
    records = [x.record() for x in segments]
    names = ["start", "end", "label", "probability"]
    names += ["start_time", "end_time"] if any("start_time" in x for x in records) else []
    table = io.StringIO()
    rows = csv.DictWriter(table, names, lineterminator="\n")
    rows.writeheader()
    rows.writerows(records)
    return table.getvalue()


def jsonl_text(segments: Sequence[Segment], source: str, video: Video | None) -> str:
    """A JSON object in each line, as `watch` prints them."""
    return "".join(json.dumps(x.record(), ensure_ascii=False) + "\n" for x in segments)


def vtt_text(segments: Sequence[Segment], source: str, video: Video | None) -> str:
    """WebVTT: a cue for each segment, whose text is the class."""
    cues = [
        f"{clock_of(first)} --> {clock_of(last)}\n{escaped(printable(x.label))}\n"
        for x in segments
        for first, last in [milliseconds(x)]
    ]
    return "\n".join(["WEBVTT\n", *cues])


def escaped(text: str) -> str:
    """Text of a WebVTT cue: no character in it starts a tag, an entity or an arrow."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def clock_of(time: int) -> str:
    """Milliseconds as hours:minutes:seconds.milliseconds."""
    return f"{time // 3600000:02}:{time // 60000 % 60:02}:{time // 1000 % 60:02}.{time % 1000:03}"


def milliseconds(segment: Segment) -> tuple[int, int]:
    """Start and end in whole milliseconds; the end is after the start."""
    start = round(1000 * segment.start)
    return start, max(start + 1, round(1000 * segment.end))


def elan_text(segments: Sequence[Segment], source: str, video: Video | None) -> str:
    """ELAN's annotation format EAF 3.0: one tier of time-aligned annotations."""
    root = ET.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "videossp",
            "DATE": datetime.now(UTC).isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": SCHEMA,
        },
    )
    header = ET.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    if video:
        url = video.path.absolute().as_uri()
        kind = mimetypes.guess_type(video.path.name)[0] or "video/*"
        ET.SubElement(header, "MEDIA_DESCRIPTOR", {"MEDIA_URL": url, "MIME_TYPE": kind})
    order = ET.SubElement(root, "TIME_ORDER")
    tier = ET.SubElement(root, "TIER", {"TIER_ID": "videossp", "LINGUISTIC_TYPE_REF": "default-lt"})
    for number, segment in enumerate(segments):
        slots = [f"ts{2 * number + 1}", f"ts{2 * number + 2}"]
        for slot, time in zip(slots, milliseconds(segment), strict=True):
            ET.SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": slot, "TIME_VALUE": str(time)})
        names = {"ANNOTATION_ID": f"a{number + 1}", "TIME_SLOT_REF1": slots[0], "TIME_SLOT_REF2": slots[1]}
        annotation = ET.SubElement(ET.SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", names)
        ET.SubElement(annotation, "ANNOTATION_VALUE").text = printable(segment.label)
    kind_of_tier = {"LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true"}
    ET.SubElement(root, "LINGUISTIC_TYPE", {**kind_of_tier, "GRAPHIC_REFERENCES": "false"})
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def label_studio_text(segments: Sequence[Segment], source: str, video: Video | None) -> str:
    """Label Studio: one task with a prediction for its tag TimelineLabels.

    Ranges are frame numbers, the first frame is 1, and the last frame of a range belongs to it.
    """
    if video is None or video.unit is None:
        raise DataError(f"{source}: its frames cannot be counted, and Label Studio needs their numbers")
    results = [
        {
            "id": f"videossp{number}",
            "type": "timelinelabels",
            "from_name": "videoLabels",
            "to_name": "video",
            "value": {"ranges": [ranges], "timelinelabels": [segment.label]},
            "score": round(segment.probability, 6),
        }
        for number, (segment, ranges) in enumerate(
            zip(segments, label_studio_ranges(segments, video), strict=True), 1
        )
    ]
    mean = sum(x.probability for x in segments) / max(1, len(segments))
    prediction = {"model_version": "videossp", "score": round(mean, 6), "result": results}
    task = {"data": {"video": source}, "predictions": [prediction]}
    return json.dumps([task], indent=2, ensure_ascii=False) + "\n"


def label_studio_ranges(segments: Sequence[Segment], video: Video) -> list[dict[str, int]]:
    """The range of each segment for a tag TimelineLabels, see `label_studio_text`.

    Args:
        segments: of the video.
        video: has times.
    """
    unit, zero = video.unit or 1, video.times[0]

    def first_from(seconds: float) -> int:
        """The number of frames before a time."""
        return bisect_left(video.times, seconds, key=lambda x: float((x - zero) * unit))

    starts = [first_from(x.start) + 1 for x in segments]
    return [
        {"start": start, "end": max(start, first_from(x.end))}
        for start, x in zip(starts, segments, strict=True)
    ]


Writer = Callable[[Sequence[Segment], str, Video | None], str]
FORMATS: dict[str, Writer] = {
    ".csv": csv_text,
    ".jsonl": jsonl_text,
    ".vtt": vtt_text,
    ".eaf": elan_text,
    ".labelstudio.json": label_studio_text,
}


def writer_of(path: Path) -> Writer:
    """The format of a file by the end of its name.

    Raises:
        ValueError: it is none of `FORMATS`.
    """
    for suffix, writer in FORMATS.items():
        if path.name.lower().endswith(suffix):
            return writer
    raise ValueError(f"--output {path}: the name must end in {', '.join(FORMATS)}")


def check_outputs(paths: Sequence[Path], is_file: bool) -> None:
    """Check that the files can be written, before anything is read.

    Args:
        paths: of the files.
        is_file: whether the source is a video file.

    Raises:
        ValueError: a file exists, its folder does not, its format is not known, or it needs a video file.
    """
    if len({x.absolute() for x in paths}) < len(paths):
        raise ValueError("--output: name each file once")
    for path in paths:
        if writer_of(path) is label_studio_text and not is_file:
            raise ValueError(f"--output {path}: Label Studio counts the frames of a file that is not live")
        check_new_file(path)


def write_outputs(
    paths: Sequence[Path], segments: Sequence[Segment], source: str, video: Video | None
) -> None:
    """Write the segments to files, each as a whole, in the formats that their names tell.

    Args:
        paths: of the files; earlier ones are replaced.
        segments: in order.
        source: name of the recording.
        video: the recording if it is a file, else None.

    Raises:
        OSError: a file cannot be written.
        DataError: the recording has no frame numbers, which Label Studio needs.
    """
    problems: list[Exception] = []
    for path in paths:
        try:
            text = writer_of(path)(segments, source, video)
            atomic_write(path, text.encode(errors="backslashreplace"))  # as stdout: names may be no UTF-8
        except (OSError, DataError) as error:  # the other files are written all the same
            problems.append(error)
    if problems:
        raise problems[0]
