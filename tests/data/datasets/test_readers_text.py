"""Annotation files with arbitrary text: they are read as written, or give a DataError."""

import csv
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_datasets import read, touch, write

from videossp.data.datasets import read_data
from videossp.errors import DataError

few = settings(derandomize=True, deadline=None, max_examples=25, database=None)
many = settings(few, max_examples=250)
# Names of files. A list cannot contain blanks at the ends of a path.
names = (
    st.text(st.sampled_from("aB1ü雪 ,;'\"#&-_"), min_size=1, max_size=12)
    .map(lambda x: f"{x.strip()}.mp4")
    .filter(lambda x: not x.startswith("."))
)
paths = st.lists(st.tuples(st.sampled_from(["", "a b/", "c,d/"]), names), min_size=2, max_size=8, unique=True)


def videos_and_labels(draw_paths, labels):
    return [("".join(path), labels[i % len(labels)]) for i, path in enumerate(draw_paths)]


@few
@given(paths, st.sampled_from([" ", ",", "\t"]), st.sampled_from(["\n", "\r\n"]))
def test_list_round_trip(drawn, separator, end):
    rows = videos_and_labels(drawn, ["0", "1", "7"])
    with tempfile.TemporaryDirectory() as folder:
        touch(Path(folder), *(path for path, _ in rows))
        text = "".join(f"{path}{separator}{label}{end}" for path, label in rows)
        assert read(write(Path(folder) / "train.txt", text)) == {"train": dict(rows)}


@few
@given(paths, st.sampled_from([",", ";", "\t"]), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
def test_csv_round_trip(drawn, separator, quoting):
    rows = videos_and_labels(drawn, ['a "b", c;', "ü", "0"])
    with tempfile.TemporaryDirectory() as folder:
        touch(Path(folder), *(path for path, _ in rows))
        with (Path(folder) / "train.csv").open("w", newline="") as file:
            writer = csv.writer(file, delimiter=separator, quoting=quoting)
            writer.writerows([("path", "label"), *rows])
        assert read(folder) == {"train": dict(rows)}


# Text that partly looks like annotation.
# fmt: off
words = st.sampled_from([
    "1.mp4", "a/1.mp4", "a.avi", "0", "-1", "1", "99999999999", "9" * 5000, "x" * 300, "²", "٣", "nan",
    "1e999", ",", ";", "\t", " ", "\n", "\r", '"', "'", "\\", "/", ".", "\0", "\ufeff", "\u2028", "\x1c", "{",
    "}", "[", "]", ":", '"id"', '"template"', "path", "label", "class_id", "split", "train", "start",
    "youtube_id", "time_start", "time_end", "file_name", "action", "P03-cam01-P03_tea", "#", "sep=;", "|",
    "start_frame", "end_frame", "fold", "is_train", "video_name", "category", "id", '"segment"',
    '"annotations"', '{"file_name": "1.mp4", "label": "a"}', "0:30", "true", "vid_name", "1.mp4,run,2,0",
])
# fmt: on
anything = st.one_of(
    st.binary(max_size=60), st.text(max_size=60).map(lambda x: x.encode("utf-8", "surrogatepass"))
) | st.lists(words, max_size=25).map(lambda x: "".join(x).encode())
HEADERS = {
    "csv": "path,label,split,start,end,class_id\n",
    "frames": "# by hand\nvideo_name;tag;is_train;fold;start_frame;end_frame\n",
    "hacs": "classname,youtube_id,subset,start,end,label\n",
    "kinetics": "label,youtube_id,time_start,time_end,split\n",
    "breakfast": "file_name,duration,action,class_id\n",
}
FILES = {
    "list": ["train.txt", "classes.txt"],
    "csv": ["train.csv", "labels.txt"],
    "frames": ["data.csv", "classes.json"],
    "json": ["data.json", "test.jsonl", "train/metadata.jsonl"],
    "hacs": ["clips.csv"],
    "jester": ["jester-v1-train.csv", "jester-v1-labels.csv"],
    "moments": ["trainingSet.csv", "moments_categories.txt"],
    "diving48": ["Diving48_V2_train.json", "Diving48_vocab.json"],
    "ucf101": ["classInd.txt", "trainlist01.txt", "testlist01.txt"],
    "hmdb51": ["a_test_split1.txt", "b_test_split1.txt"],
    "ssv2": ["labels.json", "train.json", "test.json", "test-answers.csv"],
    "kinetics": ["train.csv"],
    "breakfast": ["train.csv"],
}


def read_any_text(format, data):
    """Read files of a format with text that is drawn: samples, or an error of the data."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        touch(folder, "1.mp4", "a/1.mp4", "P03/cam01/P03_tea.avi")
        for file in FILES[format]:
            begin = HEADERS.get(format, "") if data.draw(st.booleans()) and file.endswith(".csv") else ""
            write(folder / file, begin.encode() + data.draw(anything))
        problems = []
        for named in {"frames": "csv", "json": "csv"}.get(format, format), "auto":
            try:
                samples = read_data(folder, format=named, report_problem=lambda *x: problems.append(x))
            except DataError as error:
                assert str(error).startswith(name)
            else:
                assert all(0 <= x.label < len(samples.classes) for _, x in samples.all_samples())
        assert all(len(x) == 3 for x in problems)


@pytest.mark.parametrize("format", FILES)
@few
@given(st.data())
def test_any_text_gives_samples_or_a_data_error(format, data):
    read_any_text(format, data)


@pytest.mark.slow
@pytest.mark.parametrize("format", FILES)
@many
@given(st.data())
def test_much_more_text_gives_samples_or_a_data_error(format, data):
    read_any_text(format, data)
