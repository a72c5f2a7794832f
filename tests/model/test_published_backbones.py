"""Published backbones by name: the table, the download from a hub on this machine, and its checks."""

import http.server
import io
import json
import os
import pty
import re
import subprocess
import sys
import termios
import threading
from collections import Counter
from dataclasses import replace

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import _http

import videossp
from conftest import SMALL, published
from videossp.classifier import Classifier
from videossp.errors import WeightsError
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.model.published_backbones import PUBLISHED_BACKBONES, REPOSITORY, WRONG_LINKS, nearest
from videossp.model.videomamba import VideoMamba
from videossp.model.weights_path import find_weights

VIDEO, LARGE, IMAGE, OTHER = (
    "videomamba_t16_k400_f8_res224",
    "videomamba_t16_ssv2_f16_res224to288",
    "videomamba_t16_in1k_res224",
    "videomamba_m16_k400_mask_ft_f8_res224",
)
# Sizes in place of those of videomamba_tiny, with which these tests would take minutes.
TINY = BACKBONES["videomamba_tiny"]
LESS = VideoMambaConfig(depth=2, d_model=32, d_state=4)
# MODEL_ZOO.md line by line: the name without videomamba_, and the top-1 in per cent.
PAGE = """
m16_k400_mask_pt_f8_res224 - m16_ssv2_mask_pt_f8_res224 -
t16_k400_f8_res224 76.9 t16_k400_f16_res224 78.1 t16_k400_f32_res224 78.8 t16_k400_f64_res224 79.6
t16_k400_f64_res224to384 80.3
s16_k400_f8_res224 79.3 s16_k400_f16_res224 80.8 s16_k400_f32_res224 81.5 s16_k400_f64_res224 81.8
s16_k400_f64_res224to384 82.7
m16_k400_f8_res224 80.6 m16_k400_f16_res224 81.9 m16_k400_f32_res224 82.4 m16_k400_f64_res224 82.8
m16_k400_f64_res224to384 83.3
m16_k400_mask_ft_f8_res224 82.0 m16_k400_mask_ft_f16_res224 83.4 m16_k400_mask_ft_f32_res224 83.9
m16_k400_mask_ft_f64_res224 84.3 m16_k400_mask_ft_f64_res224to384 85.0
t16_ssv2_f8_res224 65.1 t16_ssv2_f16_res224 66.0 t16_ssv2_f16_res224to288 66.2
s16_ssv2_f8_res224 66.6 s16_ssv2_f16_res224 67.7 s16_ssv2_f16_res224to288 68.1
m16_ssv2_f8_res224 67.3 m16_ssv2_f16_res224 68.3 m16_ssv2_f16_res224to288 68.4
m16_ssv2_mask_ft_f8_res224 70.2 m16_ssv2_mask_ft_f16_res224 71.0 m16_ssv2_mask_ft_f16_res224to288 71.4
t16_breakfast_f32_res224 94.3 t16_breakfast_f64_res224 94.3
s16_breakfast_f32_res224 95.3 s16_breakfast_f64_res224 97.4
m16_breakfast_f32_res224 94.8 m16_breakfast_f64_res224 95.8
m16_breakfast_mask_ft_f32_res224 97.9 m16_breakfast_mask_ft_f64_res224 96.9
t16_coin_f32_res224 86.2 t16_coin_f64_res224 87.0 s16_coin_f32_res224 88.4 s16_coin_f64_res224 88.7
m16_coin_f32_res224 88.3 m16_coin_f64_res224 89.5
m16_coin_mask_ft_f32_res224 89.6 m16_coin_mask_ft_f64_res224 90.4
t16_in1k_res224 76.9 s16_in1k_res224 81.2 m16_in1k_res224 82.8 b16_in1k_res224 82.7
t16_in1k_res224to448 79.3 t16_in1k_res224to448to576 79.6
s16_in1k_res224to448 83.2 s16_in1k_res224to448to576 83.5
m16_in1k_res224to448 83.8 m16_in1k_res224to448to576 84.0
"""


def test_the_table_has_every_file_of_the_page_once_with_its_accuracy():
    words = PAGE.split()
    names = [f"videomamba_{x}" for x in words[::2]]
    printed = [None if x == "-" else float(x) for x in words[1::2]]
    table = {name: x.top1 for name, x in PUBLISHED_BACKBONES.items()}
    assert len(names) == len(set(names)) and table == dict(zip(names, printed, strict=True))
    # Sizes x lines of each section: images 224, 448 and 576; K400; SSV2; Breakfast; COIN; pretraining.
    assert len(table) == 4 + 3 * 2 + 4 * 5 + 4 * 3 + 4 * 2 + 4 * 2 + 2 == 60


@pytest.mark.parametrize("name", PUBLISHED_BACKBONES)
def test_a_name_tells_size_frames_resolution_and_data(name):
    x = PUBLISHED_BACKBONES[name]
    parts = re.fullmatch(
        r"videomamba_([tsmb])(\d+)_([a-z0-9]+?)(_mask_[fp]t)?(?:_f(\d+))?_res(\d+to)*(\d+)", name
    )
    letter, patch, data, masked, frames, _, resolution = parts.groups()
    depth, width = {"t": (24, 192), "s": (24, 384), "m": (32, 576), "b": (24, 768)}[letter]
    sizes = x.sizes
    assert (sizes.depth, sizes.d_model, sizes.patch, sizes.d_state) == (depth, width, int(patch), 16)
    assert (x.frames, x.resolution) == (sizes.frames, sizes.size[0]) == (int(frames or 1), int(resolution))
    letters = {"Kinetics-400": "k400", "ImageNet-1K": "in1k"}.get(x.data, x.data.lower())
    assert letters == data and x.pretraining.startswith("masked") == bool(masked)
    assert x.name == name and x.hub_id == f"OpenGVLab/VideoMamba/{name}.pth"
    untested = data == "in1k" or masked == "_mask_pt"
    assert x.views == (None if untested else "3x10" if data == "coin" else "3x4")


@pytest.mark.parametrize(("letter", "millions"), [("t", 7), ("s", 26), ("m", 74), ("b", 98)])
def test_the_sizes_have_the_number_of_parameters_of_the_page(letter, millions):
    """It counts an image model with its head of 1,000 classes and its norm."""
    sizes = PUBLISHED_BACKBONES[f"videomamba_{letter}16_in1k_res224"].sizes
    with torch.device("meta"):
        backbone = sum(x.numel() for x in VideoMamba(sizes).parameters())
    total = backbone - sizes.frames * sizes.d_model + 1001 * sizes.d_model + 1000
    assert round(total / 1e6) == millions


def test_the_wrong_links_of_the_page_lead_to_files_of_other_names():
    assert len(WRONG_LINKS) == 3
    for name, link in WRONG_LINKS.items():
        assert link != PUBLISHED_BACKBONES[name].file
        assert link in {x.file for x in PUBLISHED_BACKBONES.values()}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("videomamba_m16_k400_mask_ft_f8_res22", OTHER),
        ("m16_k400_mask_ft_f8_res224", OTHER),
        (f"{OTHER}.pth", OTHER),
        ("videomamba_t16_k400_f8_rse224", VIDEO),
        ("videomamba_midle", "videomamba_middle"),
        ("resnet50", None),
    ],
)
def test_the_name_nearest_to_a_mistyped_one(typed, meant):
    assert nearest(typed) == meant


def saved(state):
    """The bytes of a file of a state in float16."""
    buffer = io.BytesIO()
    torch.save({key: x.half() for key, x in state.items()}, buffer)
    return buffer.getvalue()


def served(name, sizes):
    """A random file of a published name, but with these sizes; of its frames and resolution."""
    x = PUBLISHED_BACKBONES[name]
    state = published(replace(sizes, frames=x.frames, size=(x.resolution, x.resolution)))
    if x.frames == 1:
        del state["temporal_pos_embedding"]
        state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].squeeze(2)
    return saved(state)


class Hub:
    """A hub on this machine with one repository.

    Attributes:
        files: its content by name; `etag` changes with it.
        asked: method and path of each request.
        address: of its server.
    """

    def __init__(self):
        self.files, self.asked, self.address = {}, [], ""

    def gets(self, name):
        """How often the content of a file was sent."""
        return Counter(self.asked)["GET", f"/{REPOSITORY}/resolve/main/{name}.pth"]


@pytest.fixture(scope="module")
def contents():
    """Files of three published names, by file name."""
    return {f"{name}.pth": served(name, LESS) for name in (VIDEO, LARGE, IMAGE)}


@pytest.fixture
def hub(contents, tmp_path, monkeypatch):
    """A hub with the files of `contents`; the client asks it and has an empty cache."""
    monkeypatch.setitem(BACKBONES, "videomamba_tiny", LESS)
    made = Hub()
    made.files = dict(contents)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            made.asked.append((self.command, self.path))
            name = self.path.rpartition("/")[2]
            if self.path == f"/api/models/{REPOSITORY}":
                siblings = [{"rfilename": x} for x in made.files]
                self.reply(json.dumps({"id": REPOSITORY, "siblings": siblings}).encode())
            elif self.path.startswith(f"/{REPOSITORY}/resolve/main/") and name in made.files:
                self.reply(made.files[name])
            else:
                self.send_error(404)

        do_GET = do_HEAD

        def reply(self, content):
            tag = f"{hash(content) & 0xFFFFFFFF:08x}"
            self.send_response(200)
            self.send_header("X-Repo-Commit", tag * 5)
            self.send_header("ETag", f'"{tag}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *args):
            pass

    (getattr(_http, "reset_sessions", None) or _http.close_session)()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        made.address = f"http://127.0.0.1:{server.server_address[1]}"
        template = f"{made.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", made.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield made
        server.shutdown()
        thread.join()
    (getattr(_http, "reset_sessions", None) or _http.close_session)()


@pytest.fixture
def offline(hub, monkeypatch):
    """Call it to take the client off the net."""

    def switch():
        (getattr(_http, "reset_sessions", None) or _http.close_session)()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    return switch


def create(backbone, **settings):
    return Classifier.create(backbone, num_classes=3, method="linear", **settings)


def test_a_name_is_downloaded_once_and_an_adapter_loads_again_by_it(
    hub, offline, tmp_path, monkeypatch, capfd
):
    monkeypatch.setitem(BACKBONES, "videomamba_tiny", TINY)
    hub.files[f"{VIDEO}.pth"] = served(VIDEO, TINY)
    classifier = create(VIDEO)
    assert (classifier.clip_format.frames, classifier.clip_format.size) == (8, (224, 224))
    sent = torch.load(io.BytesIO(hub.files[f"{VIDEO}.pth"]))
    assert all(torch.equal(x, sent[key].float()) for key, x in classifier.backbone.state_dict().items())
    assert classifier.source.name == VIDEO and not classifier.warnings and hub.gets(VIDEO) == 1
    classifier.save(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == VIDEO
    assert videossp.load(tmp_path / "adapter").sha256 == classifier.sha256 and hub.gets(VIDEO) == 1
    offline()
    asked = len(hub.asked)
    assert videossp.load(tmp_path / "adapter").sha256 == classifier.sha256
    assert len(hub.asked) == asked and capfd.readouterr() == ("", "")  # no bar where there is no terminal


def test_an_adapter_tells_another_file_of_its_name_by_the_fingerprint(hub, tmp_path):
    create(VIDEO).save(tmp_path / "adapter")
    state = torch.load(io.BytesIO(hub.files[f"{VIDEO}.pth"]))
    state["cls_token"] += 1
    hub.files[f"{VIDEO}.pth"] = saved(state)
    with pytest.raises(WeightsError, match=f"trained on the backbone with sha256 .*, but {VIDEO} has"):
        videossp.load(tmp_path / "adapter")


def test_frames_and_size_are_those_of_the_file_unless_they_are_given(hub):
    classifier = create(LARGE)
    assert (classifier.clip_format.frames, classifier.clip_format.size) == (16, (288, 288))
    classifier = create("videomamba_tiny", weights=LARGE, frames=4, size=96)
    assert (classifier.clip_format.frames, classifier.clip_format.size) == (4, (96, 96))
    assert classifier.source.weights == LARGE and hub.gets(LARGE) == 1


@pytest.mark.filterwarnings("ignore::videossp.VideoSSPWarning")
def test_an_image_backbone_gets_eight_frames_without_temporal_positions(hub):
    classifier = create(IMAGE)
    assert (classifier.clip_format.frames, classifier.clip_format.size) == (8, (224, 224))
    assert not classifier.backbone.temporal_pos_embedding.any()
    assert classifier.warnings == ("temporal_pos_embedding: not in this image checkpoint, set to zero",)


@pytest.mark.parametrize(
    ("name", "other", "words"),
    [
        (OTHER, None, "depth 3, not 32; d_model 32, not 576; frames 4, not 8; size .32, 32., not .224, 224."),
        (VIDEO, LARGE, "the file has frames 16, not 8; size .288, 288., not .224, 224.; to use"),
        (VIDEO, IMAGE, "the file has frames 1, not 8; to use"),
        (IMAGE, VIDEO, "the file has frames 8, not 1; to use"),
    ],
)
def test_a_file_of_other_sizes_than_its_name_is_refused(hub, name, other, words):
    hub.files[f"{name}.pth"] = hub.files[f"{other}.pth"] if other else saved(published())
    with pytest.raises(WeightsError, match=f"not the published {name}: .*{words}") as error:
        create(name)
    assert "\n" not in str(error.value)
    if not other:  # as the message says, its hub id reads it all the same
        assert create(f"{REPOSITORY}/{name}.pth").backbone.config == SMALL


def test_without_the_hub_one_line_names_the_file_to_fetch_by_hand(hub, offline, call, class_folder):
    find_weights(VIDEO)
    offline()
    hub.asked.clear()
    assert find_weights(VIDEO).name == f"{VIDEO}.pth"
    code, _, stderr = call("train", class_folder, "--backbone", OTHER, "--dry-run")
    last = stderr.splitlines()[-1]
    assert code == 4 and f"{OTHER}.pth: no such file" in last and "HF_HUB_OFFLINE is set" in last
    address = f"{hub.address}/{REPOSITORY}/resolve/main/{OTHER}.pth"
    assert last.endswith(f"; download {address} by hand, copy it here and give its path")
    assert not hub.asked


def test_a_file_that_the_repository_lacks_is_an_error_with_the_nearest(hub):
    with pytest.raises(WeightsError, match=f"{OTHER}.pth: not available from the hub: {REPOSITORY} has"):
        create(OTHER)
    assert not [path for _, path in hub.asked if "/resolve/" in path]


@pytest.mark.parametrize("settings", [{}, {"weights": True}])
def test_a_wrong_name_gives_the_nearest_without_the_hub(hub, tmp_path, monkeypatch, settings):
    monkeypatch.chdir(tmp_path)
    wrong = OTHER.replace("mask", "maks")
    source = {"backbone": "videomamba_middle", "weights": wrong} if settings else {"backbone": wrong}
    with pytest.raises(WeightsError, match=f"; did you mean {OTHER}[?]$") as error:
        create(**source)
    assert "\n" not in str(error.value) and not hub.asked


def test_a_file_or_folder_here_of_a_published_name_is_neither_preferred_nor_ignored(
    hub, offline, tmp_path, monkeypatch
):
    create(VIDEO).save(tmp_path / "adapter")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    torch.save(published(), VIDEO)
    words = f"{VIDEO}: the name of a published backbone, and of a file or folder here; write ./{VIDEO} for"
    with pytest.raises(WeightsError, match=words):
        create(VIDEO)
    with pytest.raises(WeightsError, match=words):
        create("videomamba_tiny", weights=VIDEO)
    assert create(f"./{VIDEO}").backbone.config == SMALL
    assert create(f"{REPOSITORY}/{VIDEO}.pth").backbone.config.depth == LESS.depth
    assert (
        videossp.load(tmp_path / "adapter").backbone.config.depth == LESS.depth
    )  # it recorded the name, not a path
    os.rename(VIDEO, f"{VIDEO}.pth")
    assert create(f"{VIDEO}.pth").backbone.config == SMALL
    assert create(VIDEO).backbone.config.depth == LESS.depth


def test_a_recipe_that_expects_a_file_is_met_by_its_published_name(hub, call, class_folder, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    for expected in (VIDEO, LARGE):
        recipe.write_text(f"expect: {{classes: 2, train: 16, backbone: {expected}.pth}}\nmethod: linear\n")
        code, _, stderr = call("train", class_folder, "--config", recipe, "--backbone", VIDEO, "--dry-run")
        assert code == 0 and ("the recipe expects" in stderr) == (expected != VIDEO)


@pytest.mark.slow
def test_a_download_shows_a_bar_on_a_terminal_and_asks_the_endpoint_of_the_environment(hub, tmp_path):
    code = f"from videossp.model.weights_path import find_weights; print(find_weights({VIDEO!r}))"
    environment = os.environ | {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
    main, terminal = pty.openpty()
    termios.tcsetwinsize(main, (24, 120))
    shown = []

    def read():
        try:
            while text := os.read(main, 4096):
                shown.append(text)
        except OSError:  # how Linux ends a terminal that nobody has open any more
            pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        result = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=terminal,
            timeout=300,
        )
    finally:
        os.close(terminal)
        reader.join(120)
        os.close(main)
    assert result.returncode == 0, b"".join(shown)
    assert str(tmp_path / "home") in result.stdout.decode()
    assert f"{VIDEO}.pth" in b"".join(shown).decode() and b"100%" in b"".join(shown)


def test_backbones_are_listed_as_a_table_that_parts_of_names_filter(call):
    code, stdout, _ = call("backbones")
    header, *lines = stdout.split("\n\n")[0].splitlines()
    assert code == 0 and [x.split()[0] for x in lines] == list(PUBLISHED_BACKBONES)
    assert {x.split()[0] for x in lines if " * " in x} == set(WRONG_LINKS)
    assert len({len(x) for x in [header, *lines]}) == 1 and len(header) <= 110
    (row,) = [x for x in lines if x.startswith("videomamba_m16_coin_f64_res224 ")]
    assert row.split()[1:] == ["32", "576", "64", "224", "COIN", "89.5", "3", "x", "10"]
    code, stdout, _ = call("backbones", "K400", "mask", "--json")
    listed = json.loads(stdout)
    assert code == 0 and [x["name"] for x in listed] == [
        x for x in PUBLISHED_BACKBONES if "k400" in x and "mask" in x
    ]
    assert listed[0]["file"] == f"{REPOSITORY}/{OTHER}.pth" and listed[0]["blocks"] == 32
    code, stdout, stderr = call("backbones", "m16_k400_mask_ft_f9_res224")
    assert code == 2 and not stdout and stderr.count("\n") == 1 and "did you mean videomamba_m16" in stderr
