"""`RowFile`: it completes an interrupted file, adds no row twice, and refuses rows of other settings."""

import csv
import errno
import os
import signal
import subprocess
import sys
import tracemalloc

import pytest

from videossp.system.rows import RowFile, check_suffix, read_rows, write_rows

COLUMNS = {"path": str, "error": str, "score": float, "count": int}
ROWS = [
    {"path": 'a,"b"\nc.mp4', "error": None, "score": 0.1 + 0.2, "count": 3},
    {"path": "ä 手.mp4", "error": "bad, very", "score": None, "count": None},
    {"path": "c.mp4", "error": None, "score": 1e-300, "count": -1},
]
FORMATS = [".jsonl", ".csv", ".parquet"]


@pytest.fixture(params=FORMATS)
def file(request, tmp_path):
    if request.param == ".parquet":
        pytest.importorskip("pyarrow")
    return tmp_path / f"rows{request.param}"


def add(file, rows, settings=None):
    with RowFile.open(file, COLUMNS, ["path"], settings or {"top": 5}) as out:
        out.add(rows)
        return out.done


def test_rows_come_back_as_they_were_written(file):
    write_rows(file, ROWS, COLUMNS)
    assert read_rows(file, COLUMNS) == ROWS


@pytest.mark.parametrize("name", ["a\rb", "a\r\nb", "\n", " a ", '"', "\u2028", "a\x85b"], ids=ascii)
def test_names_with_line_ends_and_quotes_come_back(file, name):
    rows = [{**x, "path": name} for x in ROWS]
    write_rows(file, rows, COLUMNS)
    assert read_rows(file, COLUMNS) == rows


def test_other_programs_read_the_same_values(tmp_path):
    write_rows(tmp_path / "rows.csv", ROWS, COLUMNS)
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert [x["path"] for x in table] == [x["path"] for x in ROWS]
    assert [float(x["score"]) if x["score"] else None for x in table] == [x["score"] for x in ROWS]
    parquet = pytest.importorskip("pyarrow.parquet")
    write_rows(tmp_path / "rows.parquet", ROWS, COLUMNS)
    schema = parquet.read_schema(tmp_path / "rows.parquet")
    assert [str(x) for x in schema.types] == ["string", "string", "double", "int64"]


def test_a_file_grows_over_several_uses_and_holds_nothing_twice(file):
    assert len(add(file, ROWS[:1])) == 1
    done = add(file, ROWS)
    assert done == {('a,"b"\nc.mp4',): None, ("ä 手.mp4",): "bad, very", ("c.mp4",): None}
    add(file, ROWS)
    assert read_rows(file, COLUMNS) == ROWS
    assert sorted(x.name for x in file.parent.iterdir() if not x.name.endswith(".lock")) == [
        file.name,
        f"{file.name}.settings.json",
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@pytest.mark.parametrize("cut", [1, 2, 12])
def test_a_file_that_is_cut_short_is_completed(tmp_path, suffix, cut):
    file = tmp_path / f"rows{suffix}"
    add(file, ROWS)
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert len(add(file, [])) == 2
    assert read_rows(file, COLUMNS) == ROWS[:2] and file.read_bytes().endswith(b"\n")
    add(file, ROWS)
    assert file.read_bytes() == whole


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_process_killed_between_the_file_and_the_end_of_its_journal_leaves_nothing_twice(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / f"rows{suffix}"
    add(file, ROWS[:2])
    write_rows(tmp_path / "journal.jsonl", ROWS, COLUMNS)
    (tmp_path / "journal.jsonl").rename(tmp_path / f".{file.name}.jsonl")
    assert len(add(file, [])) == 3 and read_rows(file, COLUMNS) == ROWS


def test_an_error_in_the_middle_leaves_a_whole_file(file):
    with pytest.raises(KeyboardInterrupt), RowFile.open(file, COLUMNS, ["path"], {"top": 5}) as out:
        out.add(ROWS[:2])
        raise KeyboardInterrupt
    assert read_rows(file, COLUMNS) == ROWS[:2]


KILLED = """
import os, signal, sys
from pathlib import Path
from videossp.system.rows import RowFile
with RowFile.open(Path(sys.argv[1]), {"path": str, "score": float}, ["path"], {}) as out:
    for i in range(3):
        out.add([{"path": f"{i}", "score": i / 10}])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_rows_of_a_killed_process_are_not_lost(file):
    done = subprocess.run([sys.executable, "-c", KILLED, str(file)], timeout=300)
    assert done.returncode == -signal.SIGKILL
    columns = {"path": str, "score": float}
    with RowFile.open(file, columns, ["path"], {}) as out:
        assert not any(out.lacks({"path": str(i)}) for i in range(3))
        out.add([{"path": "3", "score": 0.5}])
    assert [x["path"] for x in read_rows(file, columns)] == ["0", "1", "2", "3"]


def test_rows_with_an_error_are_computed_again_only_on_request(file):
    add(file, ROWS)
    with RowFile.open(file, COLUMNS, ["path"], {"top": 5}) as out:
        assert not out.lacks(ROWS[1])
    with RowFile.open(file, COLUMNS, ["path"], {"top": 5}, retry=True) as out:
        assert [out.lacks(x) for x in ROWS] == [False, True, False]
        out.add([{**ROWS[1], "error": None}])
    assert read_rows(file, COLUMNS) == [ROWS[0], ROWS[2], {**ROWS[1], "error": None}]


def test_settings_of_a_run_without_rows_bind_no_other_run(tmp_path):
    (tmp_path / "r.csv.settings.json").write_text('{"top": 1}')  # as after a kill before the first row
    add(tmp_path / "r.csv", ROWS, {"top": 2})
    assert read_rows(tmp_path / "r.csv", COLUMNS) == ROWS


def test_other_settings_and_strangers_files_are_refused_and_not_changed(file):
    add(file, ROWS[:1])
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"was made with other settings \(top: 5, now 1\)"):
        add(file, ROWS, {"top": 1})
    with pytest.raises(ValueError, match=r"other settings \(views: null, now \[1, 2\]\)"):
        add(file, ROWS, {"top": 5, "views": (1, 2)})
    file.with_name(f"{file.name}.settings.json").unlink()
    with pytest.raises(ValueError, match="exists without rows"):
        add(file, ROWS)
    assert file.read_bytes() == before


def test_a_long_file_of_json_lines_is_completed_in_the_memory_of_its_keys(tmp_path):
    file, text = tmp_path / "rows.jsonl", "x" * 1000
    rows = [{"path": str(i), "error": None, "top": text} for i in range(5000)]
    add(file, rows)
    tracemalloc.start()
    try:
        assert len(add(file, [])) == 5000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < file.stat().st_size / 2


def test_damage_in_the_middle_is_named(tmp_path):
    for suffix, damage in ((".jsonl", b'{"path": \n'), (".csv", b"a,b\n")):
        file = tmp_path / f"rows{suffix}"
        add(file, ROWS[2:])
        with file.open("ab") as stream:
            stream.write(damage)
        add_more = file.read_bytes()
        with pytest.raises(ValueError, match=rf"rows{suffix}: (line 2|row 3) is damaged"):
            add(file, ROWS)
        assert file.read_bytes() == add_more


def test_two_writers_at_once_are_refused(file):
    first = RowFile.open(file, COLUMNS, ["path"], {"top": 5})
    with first, pytest.raises(ValueError, match="another process writes it"):
        add(file, ROWS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rows.txt", r"must end in \.jsonl, \.csv, \.parquet"),
        ("none/rows.csv", "its folder does not exist"),
        ("folder.csv", "is a folder"),
        ("pipe.jsonl", "not a file"),
    ],
    ids=["suffix", "parent", "folder", "pipe"],
)
def test_a_place_for_no_file_is_refused(tmp_path, name, message):
    (tmp_path / "folder.csv").mkdir()
    if name == "pipe.jsonl":
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no named pipes")
        os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        add(tmp_path / name, ROWS)


def test_parquet_without_its_library_is_one_line_before_anything_is_computed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"needs pyarrow: pip install 'videossp\[parquet\]'"):
        check_suffix(tmp_path / "rows.parquet")


def test_names_that_are_no_utf8_are_found_again(file):
    row = {"path": os.fsdecode(b"b\xff.mp4"), "error": None, "score": 1.0, "count": 1}
    add(file, [row])
    assert len(add(file, [row])) == 1
    assert len(read_rows(file, COLUMNS)) == 1


def test_a_full_disk_is_an_error_and_the_next_run_completes_the_file(file):
    resource = pytest.importorskip("resource")
    add(file, ROWS[:1])
    long = [{**ROWS[1], "error": "x" * 100_000}, ROWS[2]]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            add(file, long)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    add(file, [*ROWS[:1], *long])
    assert read_rows(file, COLUMNS) == [*ROWS[:1], *long]
