"""`Batcher`: requests at the same time are one pass, with the results of separate calls."""

import asyncio

import pytest
import torch

from conftest import SMALL, SSP_SMALL, switch_on
from videossp.classifier import Classifier
from videossp.errors import OutOfMemoryError
from videossp.serving import batching
from videossp.serving.batching import Batcher


def make(method="ssp", seed=0, **options):
    options = {**(SSP_SMALL if method == "ssp" else {}), **options}
    classifier = Classifier.create(SMALL, num_classes=3, method=method, **options)
    switch_on(classifier, seed=seed)
    return classifier.requires_grad_(False).eval()


def clips(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (count, 3, SMALL.frames, *SMALL.size), dtype=torch.uint8, generator=generator
    )


def run(requests, *, size=8, wait=0.0, coming=lambda: 0):
    """The results of requests that are sent at once, and (requests, rows) of each pass."""
    passes = []

    async def main():
        batcher = Batcher(size, wait, coming=coming, observe=lambda *x: passes.append(x))
        waiting = [asyncio.ensure_future(batcher.probabilities(*x)) for x in requests]
        task = asyncio.create_task(batcher.run())
        try:
            return await asyncio.gather(*waiting, return_exceptions=True)
        finally:
            task.cancel()
            batcher.close()

    return asyncio.run(main()), passes


def test_requests_of_any_adapters_are_one_pass_with_the_results_of_separate_calls():
    several = [make(seed=1), make(seed=2), make("linear", seed=3), make("linear", seed=4)]
    requests = [([x], clips(1, seed=i)) for i, x in enumerate(several)]
    found, passes = run(requests)
    assert passes == [(4, 4)]
    for (members, views), (scores,) in zip(requests, found, strict=True):
        expected = members[0].probabilities(views)
        assert torch.allclose(scores, expected, atol=1e-5) and scores.argmax() == expected.argmax()


def test_a_batch_of_one_adapter_has_the_digits_of_that_batch():
    classifier = make()
    views = clips(4)
    found, passes = run([([classifier], x[None]) for x in views])
    assert passes == [(4, 4)]
    assert torch.equal(torch.cat([x for (x,) in found]), classifier.probabilities(views, batch_size=4))


def test_a_pass_has_at_most_so_many_rows_and_the_order_stays():
    classifier, other = make(), make("linear")
    requests = [([classifier], clips(3, 0)), ([classifier, other], clips(3, 1)), ([classifier], clips(1, 2))]
    found, passes = run(requests, size=4)
    assert passes == [(1, 3), (1, 3), (2, 4)]  # the request of 6 rows is divided
    for (members, views), scores in zip(requests, found, strict=True):
        for x, own in zip(members, scores, strict=True):
            assert torch.allclose(own, x.probabilities(views), atol=1e-5)


def test_many_adapters_and_views_are_divided_into_passes_of_few_rows():
    """Seven adapters of SSP, two readers and one that mixes clips, for ten views."""
    several = [make(seed=i) for i in range(7)] + [make("linear"), make("mean"), make(importance="batch")]
    views = clips(10)
    (found,), passes = run([(several, views)], size=8)
    assert all(rows <= 8 for _, rows in passes)
    assert sum(rows for _, rows in passes) == 7 * 10 + 10 + 10
    for x, own in zip(several, found, strict=True):
        assert torch.allclose(own, x.probabilities(views), atol=1e-5)


def test_a_pass_waits_for_a_request_that_is_being_decoded():
    """The second request comes while the first waits."""
    classifier = make()
    passes = []

    async def main():
        batcher = Batcher(8, 5.0, coming=lambda: 2 - len(sent), observe=lambda *x: passes.append(x))
        task = asyncio.create_task(batcher.run())
        sent = []

        async def send(seconds):
            await asyncio.sleep(seconds)
            sent.append(seconds)
            return await batcher.probabilities([classifier], clips(1))

        await asyncio.gather(send(0.0), send(0.1))
        task.cancel()
        batcher.close()

    asyncio.run(main())
    assert passes == [(2, 2)]


def test_one_request_that_fails_does_not_take_the_others_with_it():
    good, bad, broken = make(), make(seed=1), make(seed=2)
    with torch.no_grad():
        bad.head.linear.bias.fill_(float("nan"))
    broken.head = None
    requests = [([x], clips(1, i)) for i, x in enumerate([good, bad, good, broken, good])]
    found, passes = run(requests)
    assert passes == [(5, 5)]
    assert isinstance(found[1], FloatingPointError) and isinstance(found[3], TypeError)
    for i in (0, 2, 4):
        assert torch.allclose(found[i][0], good.probabilities(requests[i][1]), atol=1e-5)


def test_too_little_memory_for_a_batch_is_enough_for_its_halves(monkeypatch):
    classifier, sizes, usual = make(), [], batching.mixed_logits

    def limited(pairs, **options):
        sizes.append(len(pairs))
        if len(pairs) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return usual(pairs, **options)

    monkeypatch.setattr(batching, "mixed_logits", limited)
    found, _ = run([([classifier], clips(1, i)) for i in range(4)])
    assert sizes == [4, 2, 2] and not any(isinstance(x, Exception) for x in found)


def test_too_little_memory_for_one_request_is_an_error_of_that_kind(monkeypatch):
    def full(pairs, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(batching, "mixed_logits", full)
    found, _ = run([([make()], clips(2))])
    assert isinstance(found[0], OutOfMemoryError) and "2 clips" in str(found[0])


def test_an_error_around_a_pass_is_that_of_its_requests_only():
    classifier, passes = make(), []

    def observe(requests, rows):
        passes.append(requests)
        if len(passes) == 1:
            raise OSError("no metrics")

    async def main():
        batcher = Batcher(8, 0.0, observe=observe)
        task = asyncio.create_task(batcher.run())
        first = await asyncio.gather(batcher.probabilities([classifier], clips(1)), return_exceptions=True)
        second = await batcher.probabilities([classifier], clips(1))
        task.cancel()
        batcher.close()
        return first, second

    (error,), (scores,) = asyncio.run(main())
    assert isinstance(error, OSError) and torch.allclose(
        scores, classifier.probabilities(clips(1)), atol=1e-5
    )


def test_a_request_whose_client_is_gone_does_not_disturb_the_others():
    classifier = make()

    async def main():
        passes = []
        batcher = Batcher(8, 0.0, observe=lambda *x: passes.append(x))
        waiting = [asyncio.ensure_future(batcher.probabilities([classifier], clips(1, i))) for i in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        task = asyncio.create_task(batcher.run())
        (found,) = await waiting[1]
        task.cancel()
        batcher.close()
        assert passes == [(1, 1)]  # nothing is computed for nobody
        return found

    assert torch.allclose(asyncio.run(main()), classifier.probabilities(clips(1, 1)), atol=1e-5)


def test_a_method_that_mixes_clips_is_computed_request_by_request():
    classifier = make(importance="batch")
    requests = [([classifier], clips(2, i)) for i in range(2)]
    found, _ = run(requests)
    for (_, views), (scores,) in zip(requests, found, strict=True):
        assert torch.allclose(scores, classifier.probabilities(views, batch_size=2), atol=1e-6)


@pytest.mark.parametrize("method", ["linear", "mean", "attentive"])
def test_readers_of_the_frozen_backbone_share_its_pass_to_the_digit(method, monkeypatch):
    """Four heads for one clip: the frozen blocks compute one clip, and each head what it computes alone."""
    from videossp.model.videomamba import Block

    several = [make(method, seed=i, **({"heads": 4} if method == "attentive" else {})) for i in range(4)]
    views = clips(1)
    expected = [x.probabilities(views) for x in several]
    calls, forward = [], Block.forward

    def counted(self, tokens, *rest, **options):
        calls.append(len(tokens.hidden))
        return forward(self, tokens, *rest, **options)

    monkeypatch.setattr(Block, "forward", counted)
    found, _ = run([(several, views)])
    assert calls == [1, 1, 1]
    assert all(map(torch.equal, found[0], expected))
