"""Time a forward pass of VideoMamba with SSP on one clip, against its matrix products alone.

    python benchmarks/forward.py [--rounds 5] [--skip-long] [--skip-videomae]

1. tiny, small and middle at 8 frames, with float32 and with bfloat16 products.
2. middle at 8, 16, 32 and 64 frames.
3. VideoMAE-base of Hugging Face (extra `bench`), an alternative for users, at equal numbers of tokens.

The products are those of the four projections of every block, the patch embedding and SSP's gathering, with
the same shapes in the same run. Their time is the shorter of two: by the function that the package calls, and
by torch.mm into preallocated outputs.
"""

import argparse
from functools import partial

from videossp import prepare_process

prepare_process()  # before torch is loaded

import torch  # noqa: E402

from videossp.bench import clock, format_seconds, make, time_forward  # noqa: E402


def line(name, result):
    print(
        f"  {name:26}{result.tokens:6} tokens {format_seconds(result.whole.median):>9}"
        f" (minimum {format_seconds(result.whole.minimum)})"
        f"   products {format_seconds(result.products.median):>9}   ratio {result.ratio:.2f}"
        f"   (to those of the backbone alone {result.whole.median / result.backbone_products.median:.2f})",
        flush=True,
    )


def longer_clips(rounds):
    """A forward pass at 8, 16, 32 and 64 frames, interleaved."""
    made = {frames: make("videomamba_middle", frames) for frames in (8, 16, 32, 64)}
    with torch.inference_mode():
        works = {frames: partial(classifier.eval(), clip) for frames, (classifier, clip) in made.items()}
        times = clock(works, rounds)
    for frames, time in times.items():
        growth = f"   {time.median / times[frames // 2].median:.2f} x half the frames" if frames > 8 else ""
        print(f"  middle + ssp, float32, {frames:2} frames {time}{growth}, {rounds} rounds", flush=True)


def against_videomae(frames, rounds):
    """A forward pass of VideoMAE-base, whose tokens cover two frames, and of VideoMamba-M with SSP."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    config = VideoMAEConfig(num_frames=2 * frames, num_labels=51)
    peer = VideoMAEForVideoClassification(config).eval()
    peer_clip = torch.randn(1, 2 * frames, 3, 224, 224)
    classifier, clip = make("videomamba_middle", frames)
    classifier.eval()
    with torch.inference_mode():
        works = {"VideoMAE-base": lambda: peer(peer_clip), "VideoMamba-M + SSP": lambda: classifier(clip)}
        times = clock(works, rounds)
    print(
        f"  {196 * frames} patch tokens: " + ", ".join(f"{name} {x}" for name, x in times.items()),
        end=f", {rounds} rounds",
    )
    print(f", {times['VideoMAE-base'].median / times['VideoMamba-M + SSP'].median:.1f} x", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-long", action="store_true", help="skip the longer clips")
    parser.add_argument("--skip-videomae", action="store_true", help="skip VideoMAE")
    args = parser.parse_args()
    print(f"one clip of 224 px, {torch.get_num_threads()} threads, medians of {args.rounds} rounds")
    for size in ("tiny", "small", "middle"):
        plain = time_forward(f"videomamba_{size}", None, args.rounds)
        line(f"{size} + ssp, float32", plain)
        rounded = time_forward(f"videomamba_{size}", None, args.rounds, "bf16")
        line(f"{size} + ssp, bf16", rounded)
        print(f"    bf16 is {plain.whole.median / rounded.whole.median:.2f} x faster")
    if not args.skip_long:
        longer_clips(max(3, args.rounds // 2))
    if not args.skip_videomae:
        try:
            print("against VideoMAE-base (random weights, tubes of two frames)")
            for frames in (8, 32):
                against_videomae(frames, max(2, args.rounds * 8 // frames))
        except ImportError:
            print("transformers is not installed (pip install 'videossp[bench]'): skipped")


if __name__ == "__main__":
    main()
