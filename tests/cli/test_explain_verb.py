"""`videossp explain`: files, lines, JSON and errors of the command."""

import json
import re

import numpy as np
import pytest

from conftest import switch_on, write_video
from videossp import Classifier


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    from conftest import SMALL, SSP_SMALL

    folder = tmp_path_factory.mktemp("adapter")
    classifier = Classifier.create(SMALL, classes=["bright", "dark"], **SSP_SMALL)
    switch_on(classifier)
    classifier.save(folder)
    return folder


@pytest.fixture
def videos(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("one/clip.mp4", "two/clip.mp4"):
        write_video(tmp_path / "videos" / name, rng.integers(0, 256, (8, 40, 48, 3), dtype=np.uint8), rate=8)
    return tmp_path / "videos"


def test_each_video_gets_a_picture_an_animation_and_arrays(call, adapter, videos, tmp_path):
    code, out, err = call("explain", adapter, videos, "--out", tmp_path / "out", "--steps", 2)
    assert code == 0, err
    names = sorted(x.name for x in (tmp_path / "out").iterdir())
    assert names == [f"clip{x}.{suffix}" for x in ("-2", "") for suffix in ("gif", "npz", "png")]
    lines = out.splitlines()
    assert len(lines) == 2 and all(
        re.search(r"[\d.]+ % (bright|dark); (without the|no single) frame", x) for x in lines
    )
    assert lines[0].endswith("clip.png") and lines[1].endswith("clip-2.png")


def test_json_has_the_summary_and_the_files(call, adapter, videos, tmp_path):
    arguments = ["--animation", "none", "--mechanism", "true", "--check", "true", "--class", "dark"]
    code, out, err = call("explain", adapter, videos / "one", "--out", tmp_path / "out", "--json", *arguments)
    assert code == 0, err
    row = json.loads(out)
    assert row["target"] == "dark" and set(row["probabilities"]) == {"bright", "dark"}
    assert [x.rsplit("/", 1)[1] for x in row["files"]] == ["clip.png", "clip.mechanism.png", "clip.npz"]
    assert 0 <= row["deletion"] <= 1 and 0 <= row["insertion"] <= 1 and len(row["frame_drops"]) == 4
    with np.load(tmp_path / "out/clip.npz") as file:
        assert file["map"].shape == (4, 2, 2)


def test_a_page_has_all_videos_and_needs_no_other_file(call, adapter, videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(
        "explain", adapter, videos, "--report", "page.html", "--mechanism", "true", "--steps", 2
    )
    assert code == 0, err
    page = (tmp_path / "page.html").read_text()
    assert page.count("<h2>") == 2 and page.count("data:image/gif") == 2 and page.count("data:image/png") == 4
    assert not re.search(r'src="(?!data:)|https?://', page)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["page.html", "videos"]
    assert len(out.splitlines()) == 2


def test_the_folder_is_a_new_one_if_none_is_given(call, adapter, videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        assert call("explain", adapter, videos / "one", "--steps", 1, "--animation", "mp4")[0] == 0
        names = sorted(x.name for x in (tmp_path / f"runs/explain-{number}").iterdir())
        assert names == ["clip.mp4", "clip.npz", "clip.png"]


def test_no_file_is_replaced(call, adapter, videos, tmp_path):
    (tmp_path / "clip-2.npz").write_text("mine")
    code, out, err = call("explain", adapter, videos, "--out", tmp_path)
    assert (code, out) == (2, "") and "clip-2.npz: exists; choose another --out" in err
    assert (tmp_path / "clip-2.npz").read_text() == "mine" and not (tmp_path / "clip.png").exists()


def test_an_existing_page_is_not_replaced(call, adapter, videos, tmp_path):
    (tmp_path / "x.html").write_text("mine")
    code, _, err = call("explain", adapter, videos, "--report", tmp_path / "x.html")
    assert code == 2 and "x.html: exists; choose another name" in err
    assert (tmp_path / "x.html").read_text() == "mine"


def test_files_of_different_videos_never_have_the_same_name(tmp_path):
    from videossp.cli.explain import SUFFIXES, free_files

    files = free_files(tmp_path, ["a.mp4", "b/a.avi", "a.mechanism.mp4", "a-2.mp4"])
    names = [x.name + suffix for x in files for suffix in SUFFIXES]
    assert len(set(names)) == len(names) and files[0].name == "a" and files[1].name == "a-2"


def test_a_video_that_cannot_be_decoded_does_not_stop_the_others(call, adapter, videos, tmp_path):
    (videos / "one/broken.mp4").write_bytes(b"no video")
    short = ["--steps", 1, "--animation", "none"]
    code, out, err = call("explain", adapter, videos, "--out", tmp_path / "out", *short)
    assert code == 3 and len(out.splitlines()) == 2
    assert "FAILED" in err and "broken.mp4" in err and "1 of 3 videos could not be decoded" in err
    rows = [
        json.loads(x)
        for x in call("explain", adapter, videos, "--out", tmp_path / "json", "--json", *short)[
            1
        ].splitlines()
    ]
    assert [x["path"] for x in rows] == [
        str(videos / x) for x in ("one/broken.mp4", "one/clip.mp4", "two/clip.mp4")
    ]
    assert [x["error"] is None for x in rows] == [False, True, True]


def test_an_interrupted_page_has_the_explanations_until_then(call, adapter, videos, tmp_path, monkeypatch):
    import videossp.explanation.explain as module

    explain, count = module.explain, []

    def press(*arguments, **options):
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt
        return explain(*arguments, **options)

    monkeypatch.setattr(module, "explain", press)
    code, out, _ = call("explain", adapter, videos, "--report", tmp_path / "x.html", "--steps", 1)
    assert code == 130 and len(out.splitlines()) == 1
    assert (tmp_path / "x.html").read_text().count("<h2>") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--class", "grey"], "no class 'grey'; the classes are bright, dark"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
        (["--steps", "4", "--method", "occlusion"], "--steps is of integrated gradients"),
        (["--animation", "mp4", "--report", "x.html"], "--animation is of the files in a folder"),
        (["--out", "videos/one/clip.mp4"], "--out videos/one/clip.mp4: is a file; give a folder"),
        (["--method", "saliency"], "--method"),
        (["--report", "page.txt"], "--report page.txt: must be a .html in a folder that exists"),
    ],
)
def test_wrong_flags_are_one_line_and_nothing_is_written(
    call, adapter, videos, tmp_path, arguments, message, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, out, err = call("explain", adapter, videos, *arguments)
    assert (code, out) == (2, "") and message in err and len(err.splitlines()) == 1
    assert [x.name for x in tmp_path.iterdir()] == ["videos"]


def test_a_map_whose_sum_is_far_off_advises_more_steps(call, adapter, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "videossp.explanation.gradients.TOLERANCE", float("inf")
    )  # so that `explain` adds none
    arguments = ["--steps", 1, "--baseline", "mean_colour", "--animation", "none"]
    err = call("explain", adapter, videos, "--out", tmp_path / "out", *arguments)[2]
    assert re.search(
        r"the map adds up to [-\d.]+, but the logit changes by [-\d.]+: give more --steps than 1", err
    )


def test_adapters_of_several_views_say_that_one_clip_is_explained(call, videos, tmp_path):
    from conftest import SMALL

    classifier = Classifier.create(SMALL, classes=["bright", "dark"], method="linear", views=(2, 3))
    classifier.save(tmp_path / "adapter")
    err = call(
        "explain", tmp_path / "adapter", videos / "one", "--report", tmp_path / "x.html", "--steps", 1
    )[2]
    assert "one clip of each video is explained; predict averages 2 x 3 views" in err
