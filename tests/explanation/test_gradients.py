"""Integrated gradients: equal to captum's, complete, and without a trace in the classifier."""

import numpy as np
import pytest
import torch
from small_models import clip_of, made

from conftest import SMALL, switch_on
from videossp import Classifier
from videossp.bundled import unpack_clips
from videossp.data.clips import read_views
from videossp.explanation import gradients
from videossp.explanation.baselines import baseline_of
from videossp.explanation.gradients import by_patch, inputs_only, integrated_gradients, quadrature
from videossp.methods import METHODS


def captum_map(classifier, clip, empty, label, steps, method):
    from captum.attr import IntegratedGradients

    with inputs_only(classifier):
        arguments = {"target": label, "n_steps": steps, "method": method, "internal_batch_size": 8}
        found = IntegratedGradients(classifier).attribute(clip[None], empty[None], **arguments)
    return by_patch(found[0].detach().float(), SMALL.patch)


@pytest.mark.parametrize(
    ("method", "baseline"),
    [
        ("linear", "mean_colour"),
        ("attentive", "median_frame"),
        ("ssp", "mean_colour"),
        ("ssp+lora", "median_frame"),
    ],
)
def test_the_map_is_that_of_captum(method, baseline, monkeypatch):
    classifier, clip = made(method), clip_of()
    empty = baseline_of(clip, baseline)

    def check(own, expected):
        bound = 1e-4 * expected.abs().max().item()
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=bound)

    exact = captum_map(classifier, clip, empty, 2, 64, "gausslegendre")
    check(integrated_gradients(classifier, clip, [2], empty, steps=128)[0][0], exact)
    # With the places of captum, also at a few steps.
    middles = captum_map(classifier, clip, empty, 2, 5, "riemann_middle")
    monkeypatch.setattr(
        gradients, "quadrature", lambda n: ((torch.arange(n) + 0.5) / n, torch.full((n,), 1 / n))
    )
    check(integrated_gradients(classifier, clip, [2], empty, steps=5)[0][0], middles)


@pytest.mark.parametrize("method", METHODS)
def test_contributions_add_up_to_the_change_of_the_logit(method):
    classifier, clip = made(method), clip_of()
    # Smaller steps of a random network than of a trained one: its logits have many bends on the path.
    empty = clip + 0.2 * clip_of(1)
    own, _ = integrated_gradients(classifier, clip, [0, 1], empty, steps=32)
    with torch.no_grad():
        logits = classifier(torch.stack([clip, empty]))
    change = (logits[0] - logits[1])[:2]
    # The choice of STOP's mask is a step, which no gradient sees.
    scale = own.abs().sum((1, 2, 3))
    assert ((own.sum((1, 2, 3)) - change).abs() < (0.05 if method == "stop" else 1e-3) * scale).all()


def test_within_all_gradients_every_path_of_ssp_has_a_gradient():
    tuner = made("ssp").requires_grad_(False).tuner
    code = torch.randn(1, SMALL.frames, 4, 16).requires_grad_()
    patches = torch.randn(1, SMALL.frames, 4, SMALL.d_model)
    prompt = torch.randn_like(patches).requires_grad_()

    def paths():
        weighted = tuner._weighted_token(patches, prompt, torch.tensor(2.0))
        return tuner._summarise(code), weighted

    stopped = paths()
    assert not any(x.requires_grad for x in stopped)
    with tuner.all_gradients():
        flowing = paths()
    assert all(x.requires_grad for x in flowing)
    for a, b in zip(stopped, flowing, strict=True):
        torch.testing.assert_close(a, b)
    # The gradient of the frame weights is that of finite differences.
    (gradient,) = torch.autograd.grad(flowing[1].sum(), prompt)
    step = 1e-2 * torch.randn_like(prompt)
    with torch.no_grad():
        prompt += step
        up = paths()[1].sum()
        prompt -= 2 * step
        down = paths()[1].sum()
    assert (up - down).item() == pytest.approx(2 * (gradient * step).sum().item(), rel=0.02, abs=1e-4)


def test_several_classes_and_passes_give_what_single_ones_give(monkeypatch):
    classifier, clip = made("ssp"), clip_of()
    empty, done = baseline_of(clip, "median_frame"), []
    together, _ = integrated_gradients(classifier, clip, [2, 0], empty, steps=5, advance=done.append)
    monkeypatch.setattr(gradients, "MOST_STEPS_AT_ONCE", 2)
    alone = [
        integrated_gradients(classifier, clip, [x], empty, steps=5, advance=done.append)[0][0] for x in (2, 0)
    ]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-6)
    assert done == [5, 2, 2, 1, 2, 2, 1]


def test_nothing_of_the_classifier_is_changed():
    classifier, clip = made("ssp"), clip_of()
    before = {name: (x.clone(), x.requires_grad) for name, x in classifier.named_parameters()}

    def unchanged():
        assert classifier.tuner.detach and classifier.tuner.detach_weights
        return all(
            x.grad is None and x.requires_grad == before[name][1] and x.equal(before[name][0])
            for name, x in classifier.named_parameters()
        )

    with torch.no_grad():  # of the caller
        integrated_gradients(classifier, clip, [0], clip_of(1), steps=2)
        assert not torch.is_grad_enabled()
    assert unchanged()
    with pytest.raises(ValueError, match="a clip must be"):
        integrated_gradients(classifier, clip[:, :2], [0], clip[:, :2], steps=2)
    assert unchanged()


def test_a_method_that_mixes_the_clips_of_a_batch_gets_each_step_alone():
    classifier, clip, seen = made("ssp", importance="batch"), clip_of(), []
    classifier.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    integrated_gradients(classifier, clip, [0], clip_of(1), steps=3)
    assert seen == [1, 1, 1]


@pytest.mark.parametrize("power", [0, 1, 2, 3])
def test_the_quadrature_integrates_powers(power):
    errors = []
    for steps in (8, 16):
        places, shares = (x.double() for x in quadrature(steps))
        errors.append((shares * places**power).sum().item() - 1 / (power + 1))
    assert abs(errors[1]) < 1e-6 if power == 0 else errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_by_patch_sums_colours_and_the_pixels_of_each_patch():
    pixels = torch.randn(2, 3, 2, 6, 8, dtype=torch.float64)
    expected = np.zeros((2, 2, 3, 4))
    for row in range(3):
        for column in range(4):
            part = pixels[..., 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            expected[..., row, column] = part.sum((1, 3, 4)).numpy()
    np.testing.assert_allclose(by_patch(pixels, 2).numpy(), expected)


def test_the_baselines_are_the_mean_colour_and_the_median_of_each_pixel():
    clip = clip_of()
    assert not baseline_of(clip, "mean_colour").any()
    expected = np.sort(clip.numpy(), axis=1)[:, (SMALL.frames - 1) // 2]
    median = baseline_of(clip, "median_frame").numpy()
    for t in range(SMALL.frames):
        np.testing.assert_array_equal(median[:, t], expected)


@pytest.mark.parametrize(("baseline", "steps"), [("median_frame", 16), ("mean_colour", 32)])
def test_on_the_bundled_backbone_the_sum_of_the_map_is_within_two_per_cent(baseline, steps, tmp_path):
    """Of the change of the logits of all classes together: that of a single one may be almost zero."""
    classifier = Classifier.create("videomamba_nano", num_classes=2)
    switch_on(classifier)
    _, unseen = unpack_clips(tmp_path)
    clip = read_views(str(unseen[0]), classifier.clip_format)[0]
    empty = baseline_of(clip, baseline)
    own = integrated_gradients(classifier.eval(), clip, [0, 1], empty, steps=steps)[0].sum((1, 2, 3))
    with torch.no_grad():
        logits = classifier(torch.stack([clip, empty]))
    change = logits[0] - logits[1]
    assert (own - change).abs().sum() < 0.02 * change.abs().sum()


def test_with_little_memory_steps_are_checkpointed_one_by_one_and_give_the_same_map(monkeypatch):
    classifier, clip, seen = made("ssp"), clip_of(), []
    whole, _ = integrated_gradients(classifier, clip, [1], clip_of(1), steps=3)
    monkeypatch.setattr(gradients, "MEMORY", 1.0)
    classifier.register_forward_pre_hook(
        lambda _, inputs: seen.append((len(inputs[0]), classifier.backbone.grad_checkpoint))
    )
    small, _ = integrated_gradients(classifier, clip, [1], clip_of(1), steps=3)
    assert seen == [(1, True)] * 3 and not classifier.backbone.grad_checkpoint
    torch.testing.assert_close(small, whole, rtol=1e-4, atol=1e-6)


def test_a_sum_with_an_error_above_two_per_cent_gets_three_times_the_steps():
    classifier, clip = made("ssp"), clip_of()
    empty = baseline_of(clip, "mean_colour")
    with torch.no_grad():
        logits = classifier(torch.stack([clip, empty]))
    changes = (logits[0] - logits[1])[:2]
    few, count = integrated_gradients(classifier, clip, [0, 1], empty, steps=2)
    errors = (few.sum((1, 2, 3)) - changes).abs()
    assert count == 2 and (errors > 0.02 * changes.abs()).any()
    more, count = integrated_gradients(classifier, clip, [0, 1], empty, steps=2, changes=changes)
    expected, _ = integrated_gradients(classifier, clip, [0, 1], empty, steps=6)
    assert count == 6
    torch.testing.assert_close(more, expected, rtol=1e-4, atol=1e-6)
    exact = few.sum((1, 2, 3))
    assert integrated_gradients(classifier, clip, [0, 1], empty, steps=2, changes=exact)[1] == 2
