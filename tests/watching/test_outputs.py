"""Files of segments, read back by readers that follow the specifications."""

import csv
import json
import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from conftest import numbered_frames, write_video
from videossp.data.video import read_video
from videossp.reporting.caption import draw_caption
from videossp.system.printable import printable
from videossp.watching.burn_in import burn_in
from videossp.watching.outputs import check_outputs, write_outputs
from videossp.watching.segment import Segment

SEGMENTS = [
    Segment(0.5, 2.0, "open <the> drawer & --> close", 0.912345678),
    Segment(2.0, 3.25, 'say "hi", ünïcode\n日本', 0.5),
    Segment(3661.0004, 3662.9996, "last", 1.0),
]


def written(tmp_path, name, segments=SEGMENTS, video=None):
    write_outputs([tmp_path / name], segments, "rec.mp4", video)
    return (tmp_path / name).read_text(encoding="utf-8")


def test_csv_and_json_lines_hold_the_segments(tmp_path):
    written(tmp_path, "a.csv")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert [*rows[0]] == ["start", "end", "label", "probability"]
    lines = [json.loads(x) for x in written(tmp_path, "a.jsonl").splitlines()]
    assert len(lines) == len(rows) == 3
    for segment, row, line in zip(SEGMENTS, rows, lines, strict=True):
        assert row["label"] == line["label"] == segment.label
        assert float(row["start"]) == line["start"] == pytest.approx(segment.start, abs=5e-4)
        assert float(row["end"]) == line["end"] == pytest.approx(segment.end, abs=5e-4)
        assert line["probability"] == pytest.approx(segment.probability, abs=1e-6)


def test_a_live_segment_has_the_time_of_day(tmp_path):
    began = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    live = [Segment(1.0, 2.5, "a", 0.5, began, began + timedelta(seconds=1.5))]
    (line,) = written(tmp_path, "a.jsonl", live).splitlines()
    assert json.loads(line)["end_time"] == "2026-01-02T03:04:06.500+00:00"
    assert (
        written(tmp_path, "a.csv", live).splitlines()[0] == "start,end,label,probability,start_time,end_time"
    )


TIMESTAMP = r"(?:(\d{2,}):)?([0-5]\d):([0-5]\d)\.(\d{3})"


def parse_vtt(text):
    """(start, end, text) of the cues of a WebVTT file, by the syntax of the recommendation, strictly."""
    assert text.startswith("WEBVTT\n\n") and "\x00" not in text and "\r" not in text
    cues = []
    for block in text.removeprefix("WEBVTT\n\n").split("\n\n"):
        timing, *payload = block.strip("\n").split("\n")
        match = re.fullmatch(f"{TIMESTAMP} --> {TIMESTAMP}", timing)
        assert match and payload, block
        numbers = [int(x or 0) for x in match.groups()]
        start, end = (h * 3600 + m * 60 + s + ms / 1000 for h, m, s, ms in (numbers[:4], numbers[4:]))
        content = "\n".join(payload)
        assert start < end and "-->" not in content and "<" not in content
        assert not re.search(r"&(?!amp;|lt;|gt;)", content)
        for name, character in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
            content = content.replace(name, character)
        cues.append((start, end, content))
    assert cues == sorted(cues)
    return cues


def test_webvtt_is_valid_and_has_the_labels(tmp_path):
    cues = parse_vtt(written(tmp_path, "a.vtt"))
    assert [x[:2] for x in cues] == [(0.5, 2.0), (2.0, 3.25), (3661.0, 3663.0)]
    assert [x[2] for x in cues] == [SEGMENTS[0].label, 'say "hi", ünïcode\\n日本', "last"]
    assert written(tmp_path, "b.vtt", []) == "WEBVTT\n"


# The order of the elements of ANNOTATION_DOCUMENT in the schema EAFv3.0.xsd, and those that must be there.
ORDER = ["LICENSE", "HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "LOCALE", "LANGUAGE", "CONSTRAINT"]


def test_elan_follows_the_schema(tmp_path):
    path = tmp_path / "rec.mp4"
    write_video(path, numbered_frames(4))
    text = written(tmp_path, "a.eaf", video=read_video(path))
    root = ET.fromstring(text)
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>')
    assert root.tag == "ANNOTATION_DOCUMENT" and root.get("VERSION") == root.get("FORMAT") == "3.0"
    assert {"AUTHOR", "DATE", "VERSION"} <= {*root.keys()} and datetime.fromisoformat(root.get("DATE")).tzinfo
    location = "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"
    assert root.get(location) == "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
    places = [ORDER.index(x.tag) for x in root]
    assert places == sorted(places) and {"HEADER", "TIME_ORDER"} <= {x.tag for x in root}
    assert root.find("HEADER").get("TIME_UNITS") == "milliseconds"
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    assert media.get("MEDIA_URL") == path.as_uri() and media.get("MIME_TYPE") == "video/mp4"
    slots = {x.get("TIME_SLOT_ID"): int(x.get("TIME_VALUE")) for x in root.find("TIME_ORDER")}
    values = [int(x.get("TIME_VALUE")) for x in root.find("TIME_ORDER")]
    assert values == sorted(values) and len(slots) == 6
    tier = root.find("TIER")
    kinds = {x.get("LINGUISTIC_TYPE_ID"): x for x in root.findall("LINGUISTIC_TYPE")}
    assert kinds[tier.get("LINGUISTIC_TYPE_REF")].get("TIME_ALIGNABLE") == "true"
    annotations = [x[0] for x in tier]
    assert {x.tag for x in annotations} == {"ALIGNABLE_ANNOTATION"}
    ids = [x.get("ANNOTATION_ID") for x in annotations] + [*slots]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[A-Za-z_][\w.-]*", x) for x in ids)  # xsd:ID
    found = [
        (slots[x.get("TIME_SLOT_REF1")], slots[x.get("TIME_SLOT_REF2")], x.find("ANNOTATION_VALUE").text)
        for x in annotations
    ]
    assert found[0] == (500, 2000, SEGMENTS[0].label) and found[2] == (3661000, 3663000, "last")


def test_every_name_gives_files_that_can_be_read(tmp_path):
    path = tmp_path / "rec.mp4"
    write_video(path, numbered_frames(4))
    for label in ("\x00\x1b", "a\r\nb", "]]>", "\ufffe\uffff", "\u2028", "caf\udce9", "-->\n\n0"):
        segments, video = [Segment(0, 1, label, 0.5)], read_video(path)
        names = [tmp_path / x for x in ("a.csv", "a.jsonl", "a.vtt", "a.eaf", "a.labelstudio.json")]
        write_outputs(names, segments, "rec\udce9.mp4", video)
        assert json.loads(names[1].read_text())["label"] == label
        assert ET.parse(names[3]).find("TIER//ANNOTATION_VALUE").text == printable(label)
        assert len(parse_vtt(names[2].read_text())) == 1
        assert json.loads(names[4].read_text())[0]["data"] == {"video": "rec\udce9.mp4"}
        with names[0].open(newline="") as file:
            assert len([*csv.DictReader(file)]) == 1


def test_label_studio_counts_frames_from_one(tmp_path):
    path = tmp_path / "rec.mp4"
    write_video(path, numbered_frames(24), rate=12)
    segments = [Segment(0.0, 0.5, "a", 0.75), Segment(0.5, 2.0, "b", 0.25), Segment(0.55, 0.6, "c", 0.5)]
    (task,) = json.loads(written(tmp_path, "a.labelstudio.json", segments, read_video(path)))
    assert task["data"] == {"video": "rec.mp4"}
    (prediction,) = task["predictions"]
    assert prediction["score"] == 0.5 and prediction["model_version"] == "videossp"
    results = prediction["result"]
    # Frames 1 to 6 are those at 0 to 5/12 s, 7 to 24 those after them. Frame 8 is at 7/12 s.
    assert [x["value"]["ranges"] for x in results] == [
        [{"start": 1, "end": 6}],
        [{"start": 7, "end": 24}],
        [{"start": 8, "end": 8}],
    ]
    assert [x["value"]["timelinelabels"] for x in results] == [["a"], ["b"], ["c"]]
    assert {x["type"] for x in results} == {"timelinelabels"} and len({x["id"] for x in results}) == 3


def test_outputs_are_checked_before_anything_is_read(tmp_path):
    there = tmp_path / "there.csv"
    there.write_text("mine")
    for names, is_file, words in (
        (["a.txt"], True, r"a\.txt: the name must end in \.csv, \.jsonl, \.vtt, \.eaf, \.labelstudio\.json"),
        (["a.json"], True, "must end in"),
        (["there.csv"], True, "exists; name a new file"),
        (["no/a.csv"], True, "there is no folder"),
        (["a.csv", "a.csv"], True, "name each file once"),
        (["a.labelstudio.json"], False, "Label Studio counts the frames of a file"),
    ):
        with pytest.raises(ValueError, match=words):
            check_outputs([tmp_path / x for x in names], is_file)
    check_outputs([tmp_path / x for x in ("a.csv", "b.VTT", "c.labelstudio.json")], True)
    assert there.read_text() == "mine"


def test_one_file_that_cannot_be_written_does_not_cost_the_others(tmp_path):
    with pytest.raises(ValueError, match="Label Studio needs their numbers"):
        write_outputs([tmp_path / "a.labelstudio.json", tmp_path / "a.csv"], SEGMENTS, "x", None)
    assert (tmp_path / "a.csv").is_file() and not (tmp_path / "a.labelstudio.json").exists()


def test_labels_are_burnt_in_while_their_segment_lasts(tmp_path):
    path, copy = tmp_path / "rec.mp4", tmp_path / "copy.mp4"
    times = [0, 1, 2, 4, 5, 9, 10, 11]
    write_video(path, np.full((8, 45, 63, 3), 160, np.uint8), rate=10, times=times, pix_fmt="yuv444p")
    burn_in(read_video(path), [Segment(0.2, 0.5, "open", 0.9), Segment(0.9, 1.05, "x", 1.0)], copy)
    from videossp.data.video import read_frames

    old, new = read_video(path), read_video(copy)
    unit = [float((x - new.times[0]) * new.unit) for x in new.times]
    assert unit == pytest.approx([x / 10 for x in times], abs=1e-3) and len(old) == len(new)
    frames = read_frames(copy)
    assert frames.shape == (8, 46, 64, 3)
    dark = [bool(x[-6:, :6].mean() < 120) for x in frames]
    assert dark == [False, False, True, True, False, True, True, False]
    assert abs(frames[0].astype(int) - 160).max() < 12 and [*tmp_path.glob(".*")] == []
    burn_in(read_video(path), [], tmp_path / "start.mp4", until=0.3)
    assert len(read_video(tmp_path / "start.mp4")) == 3


def test_a_copy_of_a_damaged_file_lacks_the_damaged_frames_only(tmp_path):
    path, copy = tmp_path / "rec.mp4", tmp_path / "copy.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (60, 64, 64, 3), dtype=np.uint8)
    write_video(path, noise, rate=12, options={"g": "12"})
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + len(data) // 20] = bytes(len(data) // 20)
    path.write_bytes(data)
    burn_in(read_video(path), [], copy)
    video = read_video(copy)
    times = [round(float((x - video.times[0]) * video.unit * 12)) for x in video.times]
    assert {*range(24), *range(48, 60)} <= {*times} < {*range(60)} and times == sorted({*times})


@pytest.mark.parametrize("text", ["a", "a name that is much wider than the picture is", "$x$ _ 50 %"])
def test_text_is_drawn_in_place_in_white_on_dark(text):
    pixels = np.full((120, 160, 3), 200, np.uint8)
    draw_caption(pixels, text)
    assert (pixels[:90] == 200).all()
    assert pixels[90:].min() < 100 and pixels[90:].max() > 220
