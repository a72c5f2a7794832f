"""benchmarks/inside.py: what is switched off is off, and nothing else; sizes are those of what SSP writes."""

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
    """By layer, what SSP adds to the patches and what it puts into the slots."""
    found = []

    class Keep(inside.After):
        def edit_tokens(self, layer, tokens):
            found.append((tokens.part("patches") - tokens.memory["before"], tokens.part("ssp")))
            return tokens

    members = {"before": inside.Before(), "ssp": classifier.tuner, "after": Keep("clip")}
    classifier.tuner, own = inside.Chain(members), classifier.tuner
    with torch.no_grad():
        classifier(clips)
    classifier.tuner = own
    return found


def test_what_is_switched_off_is_off_and_the_other_part_goes_on(inside, small_classifier):
    classifier, clips = small_classifier.eval(), torch.randn(2, 3, 4, 32, 32)
    before = written(inside, classifier, clips)
    assert all(prompt.any() for prompt, _ in before) and all(slots.any() for _, slots in before[1:])
    for off, silent, going_on in (("gathering", 0, 1), ("spreading", 1, 0)):
        weights = {name: x.clone() for name, x in classifier.tuner.state_dict().items()}
        with torch.no_grad():
            inside.OFF[off](classifier.tuner)
        after = written(inside, classifier, clips)
        assert not any(x[silent].any() for x in after) and all(x[going_on].any() for x in after[1:])
        classifier.tuner.load_state_dict(weights)


def test_with_attention_off_every_frame_gets_the_same(inside, small_classifier):
    classifier = small_classifier.eval()
    x = torch.randn(2, 4, 32)
    spread = classifier.tuner.spread[1]
    assert not torch.allclose(spread(x)[:, :1].expand(-1, 4, -1), spread(x), atol=1e-3)
    with torch.no_grad():
        inside.OFF["attention"](classifier.tuner)
    torch.testing.assert_close(spread(x)[:, :1].expand(-1, 4, -1), spread(x))
    torch.testing.assert_close(spread(x[:, [2, 0, 3, 1]]), spread(x))  # but it still reads them


def test_with_entropy_or_places_off_they_do_not_matter(inside, small_classifier, monkeypatch):
    classifier, clips = small_classifier.eval(), torch.randn(2, 3, 4, 32, 32)
    ssp = importlib.import_module("videossp.methods.ssp")
    odd = torch.rand(2, 4)
    with torch.no_grad():
        inside.OFF["entropy"](classifier.tuner)
        there = classifier(clips)
        monkeypatch.setattr(ssp, "frame_weights", lambda prompt, importance: odd)
        torch.testing.assert_close(classifier(clips), there)
        before = written(inside, classifier, clips)[1][1]
        inside.OFF["places"](classifier.tuner)
        assert not torch.allclose(written(inside, classifier, clips)[1][1], before, rtol=0.01)
        order = torch.tensor([3, 1, 0, 2])  # of the four patches of a frame
        weight = classifier.tuner.places.weight
        torch.testing.assert_close(weight.flatten(2)[..., order], weight.flatten(2))


def test_sizes_are_those_of_what_is_written(inside, small_classifier):
    classifier, clips = small_classifier.eval(), torch.randn(2, 3, 4, 32, 32)
    read = []
    hook = classifier.tuner.gather.register_forward_hook(lambda module, x, y: read.append((x[0], y[0])))
    found = inside.watch(classifier, clips).sizes
    hook.remove()
    assert [x["layer"] for x in found] == [0, 1, 2] and found[0]["slots"] == 0
    for (patches, prompt), size in zip(read, found, strict=True):
        assert size["prompt"] == pytest.approx((prompt.norm() / patches.norm()).item(), rel=1e-4)
    slots = written(inside, classifier, clips)[2][1]
    rms = slots.square().mean().sqrt() / read[2][0].square().mean().sqrt()
    assert found[2]["slots"] == pytest.approx(rms.item(), rel=1e-4)
    assert all(0 < x["weights"] < 1 for x in found)
    first, *_ = slots / slots.norm(dim=-1, keepdim=True)  # of the first clip: (frames, slots, width)
    assert all(0 < x["in_all"] < x["in_clip"] < 1 for x in found[1:])
    with torch.no_grad():
        alone = inside.watch(classifier, clips[:1]).sizes[2]
    cosines = torch.einsum("iks,jks->kij", first, first)  # the square length of a mean is their mean
    mean = pytest.approx(cosines.mean().item(), rel=1e-4)
    assert alone["in_clip"] == mean and alone["in_all"] == mean
    with torch.no_grad():
        inside.OFF["gathering"](classifier.tuner)
    after = inside.watch(classifier, clips).sizes
    assert all(x["weights"] < 1e-6 for x in after)  # all prompts are zero, so all frames alike


def test_slots_are_those_of_the_clip_or_of_all_clips(inside, small_classifier):
    classifier, clips = small_classifier.eval(), torch.randn(2, 3, 4, 32, 32)
    own, slots = classifier.tuner, inside.watch(classifier, clips).slots
    first = written(inside, classifier, clips)[1][1]  # those of block 1: what later ones read then differs
    classifier.tuner = inside.without("frames", own, slots)
    after = written(inside, classifier, clips)
    torch.testing.assert_close(after[1][1], first.mean(1, keepdim=True).expand_as(first))
    classifier.tuner = inside.without("clips", own, slots)
    for (_, there), mean in zip(written(inside, classifier, clips), slots, strict=True):
        torch.testing.assert_close(there, mean.expand_as(there))
    torch.testing.assert_close(slots[1], first.mean((0, 1)))


def test_rows_of_another_adapter_are_replaced_and_others_are_kept(
    inside, class_folder, tmp_path, monkeypatch
):
    def stand_in(folder, key, test, done):
        asked.append(sorted(done))
        yield from (key | {"off": x, "top1": 0.5} for x in inside.PARTS if x not in done)

    def run():
        monkeypatch.setattr(sys, "argv", ["inside.py", str(class_folder), str(folder), "--out", str(out)])
        inside.main()
        return json.loads(out.read_text())

    asked, out, folder = [], tmp_path / "inside.json", tmp_path / "run"
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
    assert asked == [[], sorted(inside.PARTS), []] and len(second) == len(first) and second[-1] == other
    assert {x["adapter_sha256"] for x in first} & {x["adapter_sha256"] for x in second} == {"x"}


def test_what_cannot_be_used_is_one_line(inside, class_folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("{method: ssp, lr: 0.01, seed: 0}")
    for place, run, said in (
        (class_folder, "nothing", "nothing: not a run folder of method ssp"),
        (tmp_path / "no", "run", "no"),
        (class_folder, "run", "adapter_model.safetensors"),
    ):
        argv = ["inside.py", str(place), str(tmp_path / run), "--out", str(tmp_path / "x.json")]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            inside.main()
        line = capsys.readouterr().err.splitlines()[-1]
        assert ended.value.code == 2 and said in line
