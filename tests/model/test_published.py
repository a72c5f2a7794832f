"""Published tensors: sizes, resizing, heads, random weights and errors."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import videossp
from conftest import golden, published
from videossp.classifier import Classifier
from videossp.errors import VideoSSPWarning, WeightsError
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.model.published import config_of, sort_published
from videossp.model.videomamba import VideoMamba


@pytest.mark.parametrize(
    ("name", "count"),
    [("tiny", 6_956_544), ("small", 25_414_656), ("middle", 73_645_056)],
)
def test_backbone_sizes_are_those_of_the_paper(name, count):
    with torch.device("meta"):
        backbone = VideoMamba(BACKBONES[f"videomamba_{name}"])
    norm_f = backbone.config.d_model  # ours is in the head
    assert sum(x.numel() for x in backbone.parameters()) + norm_f == count
    assert len(backbone.state_dict()) == 17 * backbone.config.depth + 5  # + norm_f and head: 8 in a file


def test_sizes_are_read_off_the_tensors():
    config = VideoMambaConfig(depth=2, d_model=24, frames=6, size=(48, 48), d_state=5, dt_rank=3)
    assert config_of(published(config)) == config


def test_positions_are_resized_in_space_and_time():
    state = published()
    wanted = VideoMambaConfig(depth=3, d_model=32, frames=7, size=(64, 48), d_state=4)
    result = sort_published(state, config=wanted)
    time = F.interpolate(state["temporal_pos_embedding"].mT, size=7, mode="linear", align_corners=False)
    assert torch.equal(result.backbone["temporal_pos_embedding"], time.mT)
    grid = state["pos_embed"][:, 1:].reshape(1, 2, 2, 32).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(4, 3), mode="bicubic", align_corners=False)
    expected = torch.cat([state["pos_embed"][:, :1], grid.permute(0, 2, 3, 1).reshape(1, 12, 32)], dim=1)
    assert torch.equal(result.backbone["pos_embed"], expected)
    assert len(result.notes) == 2
    VideoMamba(wanted).load_state_dict(result.backbone)


def test_the_same_size_changes_nothing():
    state = published()
    result = sort_published(state)
    assert result.notes == result.warnings == [] and all(
        result.backbone[key] is state[key] for key in result.backbone
    )


def test_an_image_checkpoint_is_inflated():
    state = published()
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].squeeze(2)
    del state["temporal_pos_embedding"]
    result = sort_published(state)
    assert result.backbone["patch_embed.proj.weight"].shape == (32, 3, 1, 16, 16)
    assert not result.backbone["temporal_pos_embedding"].any()
    assert len(result.notes) == len(result.warnings) == 1
    assert "inflated" in result.notes[0] and "set to zero" in result.warnings[0]


def test_tensors_of_masked_pretraining_are_left_out_with_a_note():
    result = sort_published({**published(), "clip_decoder.0.head.weight": torch.zeros(2)})
    assert "clip_decoder" in result.notes[0]


@pytest.mark.parametrize(("rows", "classes", "kept"), [(710, 400, True), (5, 5, True), (7, 5, False)])
def test_which_heads_are_kept(tmp_path, rows, classes, kept):
    state = published(classes=rows)
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    classifier = Classifier.create(str(path), num_classes=classes, method="linear")
    assert torch.equal(classifier.head.linear.weight, state["head.weight"][:classes]) == kept
    assert torch.equal(classifier.head.norm.weight, state["norm_f.weight"])


def test_the_difference_is_listed():
    state = published()
    del state["layers.1.norm.weight"]
    state["layers.0.mixer.D"] = torch.zeros(3)
    state["surplus"] = torch.zeros(1)
    with pytest.raises(WeightsError) as error:
        sort_published(state)
    text = str(error.value)
    assert text.startswith("3 tensors") and "missing: layers.1.norm.weight" in text
    assert "unknown: surplus" in text and "shape: layers.0.mixer.D is (3,), not (64,)" in text


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("norm_f.weight", lambda x: x[:1]),  # would be broadcast
        ("head.weight", lambda x: torch.cat([x, x])),  # more rows than the bias
        ("head.weight", lambda x: x[:, :-1]),
        ("pos_embed", lambda x: x.flatten()),
        ("layers.0.mixer.A_log", lambda x: x[:10]),
    ],
)
def test_a_tensor_of_another_shape_is_refused_in_every_part(key, change):
    state = published()
    state[key] = change(state[key])
    with pytest.raises(WeightsError):
        sort_published(state)


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        ("pos_embed", (5, 32), r"pos_embed is \(5, 32\), not \(1, 1 \+ patches, d_model\)"),
        ("patch_embed.proj.weight", (32, 3, 16), r"is \(32, 3, 16\), not \(d_model, 3, 1, patch, patch\)"),
        ("layers.0.mixer.dt_proj.weight", (64,), r"dt_proj.weight is \(64,\), not \(d_inner, dt_rank\)"),
        ("layers.0.mixer.conv1d.weight", (), r"is \(\), not \(d_inner, 1, d_conv\)"),
        ("layers.0.mixer.A_log", (0,), r"A_log is empty, \(0,\): .*zero_to_fp32.py"),
        ("norm_f.weight", (31,), r"shape: norm_f.weight is \(31,\), not \(32,\)"),
        ("layers.2.mixer.out_proj.weight", (64, 32), r"is \(64, 32\), not \(32, 64\)"),
    ],
)
def test_an_error_of_a_wrong_shape_names_both_shapes(key, shape, words):
    with pytest.raises(WeightsError, match=words):
        sort_published(published() | {key: torch.zeros(shape)})


def test_a_missing_layer_is_named():
    state = {key: x for key, x in published().items() if not key.startswith("layers.1.")}
    with pytest.raises(WeightsError, match=r"all tensors of layers.1 are missing; .* layers.2$"):
        sort_published(state)
    with pytest.raises(WeightsError, match=r"layers.3 are missing; .* layers.2000000000$"):
        sort_published(published() | {"layers.2000000000.norm.weight": torch.zeros(32)})


def test_named_backbones_refuse_weights_of_other_sizes(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(published(), path)
    with pytest.raises(WeightsError, match="asked for"):
        Classifier.create("videomamba_tiny", num_classes=2, weights=str(path))


@pytest.mark.parametrize("kind", ["empty folder", "folder with weights", "file"])
def test_random_weights_do_not_depend_on_a_path_named_random(tmp_path, monkeypatch, small_backbone, kind):
    expected = Classifier.create(small_backbone, weights="random", num_classes=3).sha256
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "random"
    if kind == "file":
        torch.save(published(), path)
    else:
        path.mkdir()
        if kind == "folder with weights":
            torch.save(published(), path / "weights.pth")
    classifier = Classifier.create(small_backbone, weights="random", num_classes=3)
    assert classifier.source.random and classifier.sha256 == expected
    classifier.save("adapter")
    assert videossp.load("adapter").sha256 == expected
    with pytest.raises(WeightsError, match="no backbone 'random'"):
        Classifier.create("random", num_classes=3)
    if kind != "empty folder":
        assert Classifier.create("./random", num_classes=3, method="linear").source.name == str(path)


def test_the_names_of_backbones_are_never_paths(tmp_path, monkeypatch, small_backbone):
    monkeypatch.chdir(tmp_path)
    torch.save(published(), small_backbone)
    torch.save(published(), "videomamba_nano")
    expected = Classifier.create(small_backbone, weights="random", num_classes=3).sha256
    assert Classifier.create(small_backbone, num_classes=3).sha256 == expected
    assert Classifier.create(num_classes=3).backbone.config == BACKBONES["videomamba_nano"]
    with pytest.raises(
        WeightsError, match=f"no weights of this name are bundled; for a file write ./{small_backbone}"
    ):
        Classifier.create(small_backbone, weights=small_backbone, num_classes=3)
    by_path = Classifier.create(small_backbone, weights=f"./{small_backbone}", num_classes=3)
    assert by_path.sha256 != expected and by_path.source.weights == str(tmp_path / small_backbone)


def test_weights_are_only_for_named_backbones(tmp_path):
    """The checkpoint that is named first would be ignored."""
    for name in ("a.pth", "b.pth"):
        torch.save(published(), tmp_path / name)
    with pytest.raises(ValueError, match="weights are those of a named backbone"):
        Classifier.create(str(tmp_path / "a.pth"), weights=str(tmp_path / "b.pth"), num_classes=3)


def test_defaults_that_mislead_warn_and_explicit_choices_are_noted(tmp_path, small_backbone):
    with pytest.warns(VideoSSPWarning, match="videomamba_small_test: RANDOM weights") as caught:
        classifier = Classifier.create(small_backbone, num_classes=2)
    assert classifier.warnings == (str(caught[0].message),) and not classifier.notes
    assert caught[0].filename == __file__  # the warning points at the caller
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        requested = Classifier.create(small_backbone, num_classes=2, weights="random")
        assert not requested.warnings and "as requested" in requested.notes[0]
        bundled = Classifier.create(num_classes=2)
        assert not bundled.warnings and "simulated robots" in bundled.notes[0]
    image = published()
    del image["temporal_pos_embedding"]
    torch.save(image, tmp_path / "image.pth")
    with pytest.warns(VideoSSPWarning, match="temporal_pos_embedding: not in this image checkpoint"):
        Classifier.create(str(tmp_path / "image.pth"), num_classes=2)
    with pytest.warns(VideoSSPWarning, match="temporal_pos_embedding: not in this image checkpoint"):
        videossp.from_official(image)
    numbers, _ = golden("ssp_b1")
    save_file(numbers["param"], tmp_path / "ssp.safetensors")
    with pytest.warns(VideoSSPWarning, match="trained SSP prompts"):
        Classifier.create(str(tmp_path / "ssp.safetensors"), num_classes=2, method="linear")


def test_a_published_size_without_weights_warns_of_random_ones():
    with pytest.warns(
        VideoSSPWarning, match="videomamba_tiny: RANDOM weights, because no weights were given"
    ):
        Classifier.create("videomamba_tiny", num_classes=2)
