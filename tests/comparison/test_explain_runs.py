"""`compare --explain`: the same clips under several methods."""

import re

from test_compare import QUICK, in_process, weights  # noqa: F401

from conftest import SSP_SMALL
from videossp.comparison.compare import compare
from videossp.comparison.explain_runs import disputed
from videossp.data.datasets import read_data


def test_videos_on_which_half_of_the_methods_are_wrong_come_first():
    assert disputed(["1100", "1010", "1000"], 4) == [1, 2, 0, 3]
    assert disputed(["01"], 2) == [0, 1] and disputed([], 3) == [0, 1, 2]


def test_the_page_shows_each_video_under_each_method(weights, class_folder, tmp_path, in_process):  # noqa: F811
    def run(**options):
        return compare(
            class_folder, ["linear", "ssp"], 0, QUICK, out=tmp_path / "c", backbone=weights,
            options={"ssp": SSP_SMALL}, **options,
        )  # fmt: skip

    before = run()
    assert not (tmp_path / "c/explain.html").exists()
    after = run(explain=3)  # no run is repeated
    assert after.runs == before.runs
    page = (tmp_path / "c/explain.html").read_text()
    order = disputed([x["hits"] for x in after.runs], 8)[:3]
    samples = read_data(class_folder).splits["test"]
    assert re.findall("<h2>(.*): is", page) == [samples[i].name for i in order]
    assert page.count("<img") == 3 and page.count("<td>linear</td>") == page.count("<td>ssp</td>") == 3
    assert not re.search(r'src="(?!data:)', page)


def test_methods_without_a_finished_run_are_named(weights, class_folder, tmp_path, in_process, monkeypatch):  # noqa: F811
    from test_compare import Broken

    from videossp.methods import METHODS

    monkeypatch.setitem(METHODS, "broken", Broken)
    compare(class_folder, ["linear", "broken"], 0, QUICK, out=tmp_path / "c", backbone=weights, explain=1)
    page = (tmp_path / "c/explain.html").read_text()
    assert "Not shown, because this run is not finished: broken." in page and "<td>linear</td>" in page


def test_the_command_prints_the_table_before_it_explains(call, weights, class_folder, tmp_path, in_process):  # noqa: F811
    arguments = [
        "--methods",
        "linear",
        "--seeds",
        0,
        "--epochs",
        1,
        "--backbone",
        weights,
        "--out",
        tmp_path / "c",
    ]
    code, out, err = call("compare", class_folder, *arguments, "--explain", 1)
    assert code == 0 and "results.json" in out and "explain.html: written" in err
    assert (tmp_path / "c/explain.html").exists()
    assert call("compare", class_folder, *arguments, "--explain", -1)[0] == 2
