"""Reading published checkpoints: wrappers, prefixes, resizing, and errors that tell."""

import argparse

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from conftest import SMALL, published
from videossp.classifier import Classifier
from videossp.errors import WeightsError
from videossp.model.backbones import find_weights
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.model.published import config_of, read_checkpoint, sort_published, unwrap
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


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("wrap", [None, "model", "module", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "encoder.", "_orig_mod."])
def test_every_form_of_file_is_read(tmp_path, suffix, wrap, prefix):
    state = published()
    path = tmp_path / f"weights.{suffix}"
    content = {prefix + key: value for key, value in state.items()}
    if suffix == "safetensors":
        save_file(content, path)
    else:
        torch.save(content if wrap is None else {wrap: content, "epoch": 1}, path)
    read = read_checkpoint(path)
    assert read.keys() == state.keys() and all(torch.equal(read[key], state[key]) for key in state)


def test_sizes_are_read_off_the_tensors():
    spec = VideoMambaConfig(depth=2, d_model=24, frames=6, size=(48, 48), d_state=5, dt_rank=3)
    assert config_of(published(spec)) == spec


def test_positions_are_resized_in_space_and_time():
    state = published()
    wanted = VideoMambaConfig(depth=3, d_model=32, frames=7, size=(64, 48), d_state=4)
    placed = sort_published(state, spec=wanted)
    time = F.interpolate(state["temporal_pos_embedding"].mT, size=7, mode="linear", align_corners=False)
    assert torch.equal(placed.backbone["temporal_pos_embedding"], time.mT)
    grid = state["pos_embed"][:, 1:].reshape(1, 2, 2, 32).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(4, 3), mode="bicubic", align_corners=False)
    expected = torch.cat([state["pos_embed"][:, :1], grid.permute(0, 2, 3, 1).reshape(1, 12, 32)], dim=1)
    assert torch.equal(placed.backbone["pos_embed"], expected)
    assert len(placed.notes) == 2
    VideoMamba(wanted).load_state_dict(placed.backbone)


def test_the_same_size_changes_nothing():
    state = published()
    placed = sort_published(state)
    assert placed.notes == [] and all(placed.backbone[key] is state[key] for key in placed.backbone)


def test_an_image_checkpoint_is_inflated():
    state = published()
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].squeeze(2)
    del state["temporal_pos_embedding"]
    placed = sort_published(state)
    assert placed.backbone["patch_embed.proj.weight"].shape == (32, 3, 1, 16, 16)
    assert not placed.backbone["temporal_pos_embedding"].any() and len(placed.notes) == 2


def test_tensors_of_masked_pretraining_are_left_out_with_a_note():
    placed = sort_published({**published(), "clip_decoder.0.head.weight": torch.zeros(2)})
    assert "clip_decoder" in placed.notes[0]


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
def test_a_tensor_of_another_form_is_refused_wherever_it_belongs(key, change):
    state = published()
    state[key] = change(state[key])
    with pytest.raises(WeightsError):
        sort_published(state)


def test_named_backbones_refuse_weights_of_other_sizes(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(published(), path)
    with pytest.raises(WeightsError, match="asked for"):
        Classifier.create("videomamba_tiny", num_classes=2, weights=str(path))


@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint", b"\x80\x02cos\nsystem\n(S'true'\ntR."],
    ids=["empty", "text", "code"],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_unreadable_files_are_one_line(tmp_path, content, suffix):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a readable checkpoint") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


def test_flags_inside_a_training_checkpoint_do_not_matter(tmp_path):
    torch.save({"model": published(), "args": argparse.Namespace(lr=1e-3)}, tmp_path / "weights.pth")
    assert config_of(read_checkpoint(tmp_path / "weights.pth")) == SMALL


def test_a_state_without_tensors_is_refused():
    with pytest.raises(WeightsError, match="no tensors"):
        unwrap({"model": {"a": 1}})


def test_a_hub_id_is_found_in_the_local_cache_when_offline(tmp_path, monkeypatch):
    import huggingface_hub.constants

    snapshot = tmp_path / "models--owner--repo" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    torch.save(published(), snapshot / "weights.pth")
    (tmp_path / "models--owner--repo" / "refs").mkdir()
    (tmp_path / "models--owner--repo" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert find_weights("owner/repo/weights.pth") == snapshot / "weights.pth"
    assert config_of(read_checkpoint(find_weights("owner/repo/weights.pth"))) == SMALL
    for missing in ("owner/repo/other.pth", "owner/repo"):
        with pytest.raises(WeightsError, match="the hub did not give it") as error:
            find_weights(missing)
        assert "\n" not in str(error.value)


def test_a_folder_needs_one_weight_file(tmp_path):
    with pytest.raises(WeightsError, match="holds no weights"):
        find_weights(str(tmp_path))
    for name in ("a.pth", "b.pth"):
        torch.save(published(), tmp_path / name)
    with pytest.raises(WeightsError, match=r"a\.pth, b\.pth"):
        find_weights(str(tmp_path))


@pytest.mark.parametrize(
    "source", ["nothing.pth", "weights/none.pth", "./no/such/file.pth", "/no/such/file.pth"]
)
def test_a_path_that_is_not_there(source):
    with pytest.raises(WeightsError, match="no such file|no backbone"):
        Classifier.create(source, num_classes=2)
