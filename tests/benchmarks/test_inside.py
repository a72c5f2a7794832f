"""benchmarks/inside.py: only the named part is switched off; sizes are those of the output of SSP."""

import importlib
import json
import sys

import pytest
import torch


@pytest.fixture
def inside(benchmarks):
    torch.manual_seed(0)
    return benchmarks("inside")


def written(inside, classifier, clips):
    """By layer, the prompt that SSP adds to the patches, and the slots."""
    outputs = []

    class Keep(inside.After):
        def edit_tokens(self, layer, tokens):
            outputs.append((tokens.part("patches") - tokens.memory["before"], tokens.part("ssp")))
            return tokens

    members = {"before": inside.Before(), "ssp": classifier.tuner, "after": Keep("clip")}
    classifier.tuner, ssp = inside.Chain(members), classifier.tuner
    with torch.no_grad():
        classifier(clips)
    classifier.tuner = ssp
    return outputs


def test_one_part_is_switched_off_and_the_other_is_not(inside, small_classifier):
    classifier, clips = small_classifier.eval(), torch.randn(2, 3, 4, 32, 32)
    before = written(inside, classifier, clips)
    assert all(prompt.any() for prompt, _ in before) and all(slots.any() for _, slots in before[1:])
    for off, silent, active in (("gathering", 0, 1), ("spreading", 1, 0)):
        weights = {name: x.clone() for name, x in classifier.tuner.state_dict().items()}
        with torch.no_grad():
            inside.OFF[off](classifier.tuner)
        after = written(inside, classifier, clips)
        assert not any(x[silent].any() for x in after) and all(x[active].any() for x in after[1:])
        classifier.tuner.load_state_dict(weights)


def test_with_attention_off_every_frame_gets_the_same_output(inside, small_classifier):
    classifier = small_classifier.eval()
    x = torch.randn(2, 4, 32)
    spread = classifier.tuner.spread[1]
    assert not torch.allclose(spread(x)[:, :1].expand(-1, 4, -1), spread(x), atol=1e-3)
    with torch.no_grad():
        inside.OFF["attention"](classifier.tuner)
    torch.testing.assert_close(spread(x)[:, :1].expand(-1, 4, -1), spread(x))
    torch.testing.assert_close(spread(x[:, [2, 0, 3, 1]]), spread(x))  # but it still reads all frames


def test_with_entropy_or_places_off_frames_or_positions_weigh_the_same(inside, small_classifier, monkeypatch):
    classifier, clips = small_classifier.eval(), torch.randn(2, 3, 4, 32, 32)
    ssp = importlib.import_module("videossp.methods.ssp")
    weights = torch.rand(2, 4)
    with torch.no_grad():
        inside.OFF["entropy"](classifier.tuner)
        expected = classifier(clips)
        monkeypatch.setattr(ssp, "frame_weights", lambda prompt, importance: weights)
        torch.testing.assert_close(classifier(clips), expected)
        before = written(inside, classifier, clips)[1][1]
        inside.OFF["places"](classifier.tuner)
        assert not torch.allclose(written(inside, classifier, clips)[1][1], before, rtol=0.01)
        order = torch.tensor([3, 1, 0, 2])  # of the four patches of a frame
        weight = classifier.tuner.places.weight
        torch.testing.assert_close(weight.flatten(2)[..., order], weight.flatten(2))


def test_sizes_are_those_of_the_output_of_ssp(inside, small_classifier):
    classifier, clips = small_classifier.eval(), torch.randn(2, 3, 4, 32, 32)
    read = []
    hook = classifier.tuner.gather.register_forward_hook(lambda module, x, y: read.append((x[0], y[0])))
    sizes = inside.watch(classifier, clips).sizes
    hook.remove()
    assert [x["layer"] for x in sizes] == [0, 1, 2] and sizes[0]["slots"] == 0
    for (patches, prompt), size in zip(read, sizes, strict=True):
        assert size["prompt"] == pytest.approx((prompt.norm() / patches.norm()).item(), rel=1e-4)
    slots = written(inside, classifier, clips)[2][1]
    rms = slots.square().mean().sqrt() / read[2][0].square().mean().sqrt()
    assert sizes[2]["slots"] == pytest.approx(rms.item(), rel=1e-4)
    assert all(0 < x["weights"] < 1 for x in sizes)
    first, *_ = slots / slots.norm(dim=-1, keepdim=True)  # of the first clip: (frames, slots, width)
    assert all(0 < x["in_all"] < x["in_clip"] < 1 for x in sizes[1:])
    with torch.no_grad():
        alone = inside.watch(classifier, clips[:1]).sizes[2]
    cosines = torch.einsum("iks,jks->kij", first, first)  # the square length of a mean is their mean
    mean = pytest.approx(cosines.mean().item(), rel=1e-4)
    assert alone["in_clip"] == mean and alone["in_all"] == mean
    with torch.no_grad():
        inside.OFF["gathering"](classifier.tuner)
    after = inside.watch(classifier, clips).sizes
    assert all(x["weights"] < 1e-6 for x in after)  # all prompts are zero, so all frames alike


def test_slots_hold_the_mean_of_the_clip_or_of_all_clips(inside, small_classifier):
    classifier, clips = small_classifier.eval(), torch.randn(2, 3, 4, 32, 32)
    ssp, slots = classifier.tuner, inside.watch(classifier, clips).slots
    first = written(inside, classifier, clips)[1][1]  # of block 1: later blocks read changed tokens
    classifier.tuner = inside.without("frames", ssp, slots)
    after = written(inside, classifier, clips)
    torch.testing.assert_close(after[1][1], first.mean(1, keepdim=True).expand_as(first))
    classifier.tuner = inside.without("clips", ssp, slots)
    for (_, replaced), mean in zip(written(inside, classifier, clips), slots, strict=True):
        torch.testing.assert_close(replaced, mean.expand_as(replaced))
    torch.testing.assert_close(slots[1], first.mean((0, 1)))


def test_rows_of_another_adapter_are_replaced_and_others_are_kept(
    inside, class_folder, tmp_path, monkeypatch
):
    def stand_in(folder, key, test, done):
        calls.append(sorted(done))
        yield from (key | {"off": x, "top1": 0.5} for x in inside.PARTS if x not in done)

    def run():
        monkeypatch.setattr(sys, "argv", ["inside.py", str(class_folder), str(folder), "--out", str(out)])
        inside.main()
        return json.loads(out.read_text())

    calls, out, folder = [], tmp_path / "inside.json", tmp_path / "run"
    monkeypatch.setattr(inside, "rows_of", stand_in)
    (folder / "adapter").mkdir(parents=True)
    (folder / "config.yaml").write_text("{method: ssp, lr: 0.01, seed: 0}")
    (folder / "adapter" / inside.WEIGHTS).write_bytes(b"first")
    other = {"set": class_folder.name, "lr": 0.01, "seed": 1, "adapter_sha256": "x", "off": "nothing"}
    out.write_text(json.dumps([other]))
    first = run()
    assert [x["off"] for x in first] == [*inside.PARTS, "nothing"] and first[-1] == other
    assert run() == first
    (folder / "adapter" / inside.WEIGHTS).write_bytes(b"second")
    second = run()
    assert calls == [[], sorted(inside.PARTS), []] and len(second) == len(first) and second[-1] == other
    assert {x["adapter_sha256"] for x in first} & {x["adapter_sha256"] for x in second} == {"x"}


def test_an_unusable_run_or_set_ends_in_one_line(inside, class_folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("{method: ssp, lr: 0.01, seed: 0}")
    for root, run, message in (
        (class_folder, "nothing", "nothing: not a run folder of method ssp"),
        (tmp_path / "no", "run", "no"),
        (class_folder, "run", "adapter_model.safetensors"),
    ):
        argv = ["inside.py", str(root), str(tmp_path / run), "--out", str(tmp_path / "x.json")]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            inside.main()
        line = capsys.readouterr().err.splitlines()[-1]
        assert ended.value.code == 2 and message in line
