"""A Gradio app for a Hugging Face Space: the classes of an uploaded video.

Put adapter folders or run folders into the folder `adapters` beside this file; users choose one on the page.
"""

from pathlib import Path

import gradio as gr

import videossp

videossp.prepare_process()  # before the first use of videossp imports torch
FOLDER = Path(__file__).resolve().parent / "adapters"
KEPT = (600, 3600)  # seconds: how often Gradio looks for old uploads, and the age at which it removes them


def make_page(folder: Path) -> gr.Interface:
    adapters = {x.name: videossp.load(x, device="auto") for x in sorted(folder.glob("*/"))}
    if not adapters:
        raise SystemExit(f"{folder}: no adapter here; copy adapter folders or run folders into it")
    first = next(iter(adapters))

    def predict(video: str | None, adapter: str = first) -> dict[str, float]:
        if video is None:
            raise gr.Error("Choose a video first.", print_exception=False)
        try:
            return adapters[adapter].predict(video)[0].probabilities
        except videossp.DataError as error:
            raise gr.Error(str(error), print_exception=False) from None

    # No webcam: Gradio mirrors its videos, and needs FFmpeg's command for that.
    inputs = [gr.Video(sources=["upload"], label="Video")]
    if len(adapters) > 1:
        inputs.append(gr.Dropdown(list(adapters), value=first, label="Adapter"))
    classes = gr.Label(num_top_classes=5)
    return gr.Interface(predict, inputs, classes, flagging_mode="never", delete_cache=KEPT)


if __name__ == "__main__":
    make_page(FOLDER).launch(max_file_size=50_000_000)
