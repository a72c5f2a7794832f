"""`sprites` on a toy package: the art is read correctly, splits share nothing, classes differ in motion."""

import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MINIBENCH = Path(__file__).parents[2] / "benchmarks/minibench"
KEYS = {"stance": 2, "run": 8, "swing": 4, "cast": 4, "shoot": 4, "hit": 2, "die": 6}


@pytest.fixture
def sprites(minibench):
    return minibench("sprites")


def drawings(action):
    """The lines of an action: each key is another rectangle, 20 x 30, which stands on its (10, 28)."""
    top = 4 * list(KEYS).index(action)
    places = itertools.product(range(KEYS[action]), range(8))
    return [f"[{action}]"] + [f"frame={k},{d},{4 * k + d},{top},20,30,10,28" for k, d in places]


@pytest.fixture
def package(tmp_path, sprites):
    """A package in which every creature and every piece of clothing is the same noise."""
    mod = tmp_path / "package/usr/share/games/flare/mods/fantasycore"
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 4), np.uint8)
    sheet = "\n".join(["image=images/enemies/sheet.png", *itertools.chain(*map(drawings, KEYS))])
    tiles = "img=images/tilesets/tiles.png\n" + "\n".join(
        f"tile={i},{i},0,64,32,32,16" for i in range(16, 32)
    )
    for look in sprites.LOOKS.values():
        pieces = itertools.chain(*look.clothes.values(), *look.held.values())
        worn = [f"avatar/{sex}/{x}" for sex, x in itertools.product(("female", "male"), pieces)]
        for name in [*worn, *(f"enemies/{x}" for x in itertools.chain(*look.creatures))]:
            write(mod / f"animations/{name}.txt", sheet)
        for floor in look.floors:
            write(mod / f"tilesetdefs/tileset_{floor}.txt", tiles)
    for file in ("images/enemies/sheet.png", "images/tilesets/tiles.png"):
        (mod / file).parent.mkdir(parents=True)
        Image.fromarray(noise).save(mod / file)
    return tmp_path / "package"


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_sheet_is_read(minibench):
    text = """# a comment
image=images/enemies/zombie.png

[run]
duration=800ms
frames=2
frame=0,1,127,285,31,54,14,51
frame=1,7,0,0,5,6,-2,6
[die]
frame=0,0,1,2,3,4,5,6"""
    image, actions = minibench("flare").read_sheet(text)
    assert image == "images/enemies/zombie.png"
    assert actions == {
        "run": {(0, 1): (127, 285, 31, 54, 14, 51), (1, 7): (0, 0, 5, 6, -2, 6)},
        "die": {(0, 0): (1, 2, 3, 4, 5, 6)},
    }


def test_a_figure_stands_in_the_middle_of_its_picture(minibench, package):
    flare = minibench("flare")
    figure = flare.Figure(flare.Flare(package), {"body": "enemies/zombie"})
    sheet = figure.flare.picture("images/enemies/sheet.png")
    drawn = figure.draw("swing", 3, 5)  # the rectangle from (4 * 3 + 5, 4 * 2) on, by its (10, 28)
    alone = sheet.crop((17, 8, 37, 38)).convert("RGBa")
    left, top = flare.REACH - 10, flare.REACH - 28
    assert drawn.size == (2 * flare.REACH, 2 * flare.REACH)
    assert drawn.crop((left, top, left + 20, top + 30)).tobytes() == alone.tobytes()
    assert figure.bounds("swing", 3, 5) == (-10, -28, 10, 2)


def test_a_hand_is_behind_the_body_or_before_it(minibench, package):
    flare = minibench("flare")
    package = flare.Flare(package)
    body = {"chest": "avatar/male/default_chest"}
    figure = flare.Figure(package, body | {"main": "avatar/male/dagger"})
    red, blue = Image.new("RGBA", (96, 64), "red"), Image.new("RGBA", (96, 64), "blue")
    package.pictures |= {"red": red, "blue": blue}
    figure.sheets = {
        part: sheet._replace(image="red" if part == "chest" else "blue")
        for part, sheet in figure.sheets.items()
    }
    middle = (flare.REACH, flare.REACH - 10)
    seen = [figure.draw("run", 0, direction).getpixel(middle) for direction in range(8)]
    towards = [x for x, name in enumerate(flare.DIRECTIONS) if seen[x] == (0, 0, 255, 255)]
    assert towards == [2, 3, 4, 5]  # the right hand, of who faces up or to the right


def test_a_package_reads_the_same_packed_or_unpacked(minibench, package):
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is Debian's")
    control = "Package: flare-game\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: toy\n"
    unpacked = minibench("flare").Flare(package)
    write(package / "DEBIAN/control", control)
    packed = package.with_suffix(".deb")
    subprocess.run(["dpkg-deb", "-b", package, packed], check=True, capture_output=True)
    assert minibench("flare").Flare(packed).files == unpacked.files
    assert minibench("flare").Flare(packed).hash == unpacked.hash


def test_the_first_mod_with_a_file_counts(minibench, package):
    other = next(package.rglob("mods")) / "empyrean_campaign/animations/enemies"
    write(other / "zombie.txt", "APPEND")
    write(other / "dragon.txt", "[run]")
    flare = minibench("flare").Flare(package)
    assert set(flare.sheet("enemies/zombie").actions) == set(KEYS)
    assert flare.has("enemies/dragon")


@pytest.mark.parametrize("wrong", ["missing.deb", "text.deb", "empty", None])
def test_a_path_that_is_no_package_is_named_in_one_line(wrong, minibench, tmp_path):
    (tmp_path / "text.deb").write_text("no archive")
    (tmp_path / "empty").mkdir()
    path = tmp_path / wrong if wrong else None
    with pytest.raises(ValueError, match="--data takes Debian's flare-game") as error:
        minibench("sprites").Data(path)
    assert "\n" not in str(error.value)
    assert path is None or str(error.value).startswith(f"{path}: ")


def test_a_sheet_that_is_missing_is_named(sprites, package):
    next(package.rglob("minotaur.txt")).unlink()
    maker = sprites.Maker("run", sprites.Data(package))
    with pytest.raises(ValueError, match=r"does not contain animations/enemies/minotaur.txt"):
        maker.creature(sprites.LOOKS["test"], np.random.default_rng(0))


@pytest.mark.parametrize("name", ["sprites", "fresh_sprites"])
def test_the_splits_share_no_creature_no_clothes_nothing_held_and_no_floor(name, minibench):
    sprites = minibench(name)
    for names in (
        lambda look: itertools.chain(*look.creatures),
        lambda look: itertools.chain(*look.clothes.values()),
        lambda look: itertools.chain(*look.held.values()),
        lambda look: look.floors,
    ):
        train, val, test = (set(names(sprites.LOOKS[x])) for x in ("train", "val", "test"))
        assert train and val and test
        assert not train & val and not val & test and not train & test


def test_a_fresh_test_has_figures_that_no_earlier_test_or_validation_had(minibench, sprites):
    first, fresh = sprites.LOOKS, minibench("fresh_sprites").LOOKS["test"]
    assert set(itertools.chain(*fresh.creatures)) <= set(itertools.chain(*first["train"].creatures))
    assert all(set(fresh.clothes[x]) <= set(first["train"].clothes[x]) for x in fresh.clothes)


@pytest.mark.parametrize("module", ["sprites", "fresh_sprites"])
def test_the_splits_share_no_hue_no_size_and_no_place(module, minibench):
    sprites = minibench(module)
    for name in ("hues", "sizes", "places"):
        ordered = sorted(getattr(look, name) for look in sprites.LOOKS.values())
        assert all(low < high for low, high in ordered)
        assert all(a[1] < b[0] for a, b in itertools.pairwise(ordered))


def test_equal_drawings_of_two_strikes_count_for_the_first(minibench, sprites):
    frames = {"a": "frame=0,0,1,2,3,4,5,6", "b": "frame=0,0,9,2,3,4,5,6"}

    def own(**kinds):
        sheet = "\n".join(f"[{action}]\n{frames[kind]}" for action, kind in kinds.items())
        return sprites.own_actions(minibench("flare").read_sheet(sheet))

    assert own(shoot="a", cast="a", swing="a", run="b") == {"swing", "run"}
    assert own(shoot="a", cast="a", swing="b") == {"swing", "cast"}
    assert own(shoot="a", hit="b", die="b") == {"shoot", "hit", "die"}


@pytest.mark.parametrize("keys", [2, 4, 6, 8])  # which FLARE's actions have
def test_a_clip_shows_an_action_completely(keys, sprites):
    for label, seed in itertools.product(sprites.CLASSES, range(20)):
        rng = np.random.default_rng(seed)
        shown = sprites.play(label, keys, 4, rng.uniform(0.5, 1), rng)
        assert len(shown) == sprites.FRAMES
        assert {key for action, key in shown if action != "stance"} == set(range(keys))


def test_get_up_is_die_reversed(sprites):
    die, get_up = (sprites.play(x, 6, 4, 0.7, np.random.default_rng(1)) for x in ("die", "get-up"))
    assert get_up == die[::-1] != die
    assert die[-1] == ("die", 5)


def test_a_runner_moves_forward_and_a_moonwalker_backward(minibench, sprites):
    ahead = {"left": (-1, 0), "up": (0, -0.5), "right": (1, 0), "down": (0, 0.5)}
    for label, (name, to) in itertools.product(sprites.CLASSES, ahead.items()):
        direction = minibench("flare").DIRECTIONS.index(name)
        figure, floor = sprites.move(label, direction, 4, np.random.default_rng(1))
        path = (figure - floor)[-1] - (figure - floor)[0]
        pace = {"run": 4, "moonwalk": -4}.get(label, 0)
        assert path == pytest.approx(np.array(to) * pace * (sprites.FRAMES - 1), abs=1e-9)


def test_the_drift_does_not_depend_on_the_class(sprites):
    for direction in range(0, 8, 2):
        drifts = [sprites.move(x, direction, 4, np.random.default_rng(3))[0] for x in sprites.CLASSES]
        assert all(np.abs(x).max() < 0.3 * 4 * sprites.FRAMES / 2 for x in drifts)


def test_floors_have_one_contrast_and_the_given_colour(sprites):
    rng = np.random.default_rng(0)
    for low, high in ((0, 30), (100, 200)):
        floor = Image.fromarray(rng.integers(low, high, (50, 50, 3), np.uint8))
        dyed = np.asarray(sprites.dye(floor, np.array((120, 60, 90))), float)
        assert dyed.mean((0, 1)) == pytest.approx((120, 60, 90), abs=1)
        assert dyed.std((0, 1)) / dyed.mean((0, 1)) == pytest.approx(sprites.CONTRAST, abs=0.01)


def test_a_clip_of_sprites_has_the_same_bytes_whatever_was_made_before(minibench, sprites, package):
    clips = [minibench("clipset").Clip("test", "get-up", i) for i in range(3)]
    maker, other = (sprites.Maker("get-up", minibench("flare").Flare(package)) for _ in range(2))
    first = [maker.make(x.split, x.stream("sprites", 0)) for x in clips]
    again = other.make("test", clips[2].stream("sprites", 0))
    assert again.frames.tobytes() == first[2].frames.tobytes() != first[1].frames.tobytes()
    assert again.row == first[2].row


def test_each_class_has_clips_in_each_split(sprites, package):
    for split, label in itertools.product(sprites.SPLITS, sprites.CLASSES):
        made = sprites.Maker(label, sprites.Data(package)).make(split, np.random.default_rng(1))
        assert made.frames.shape == (16, 112, 112, 3) and made.frames.dtype == np.uint8
        assert list(made.row) == ["figure", "direction", "speed", "size", "place", "floor", "hue"]
