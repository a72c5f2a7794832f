"""The page in a browser: it shows what the package computes, to everybody and without a fault."""

import base64
import csv
import json
import re
import shutil
import threading
from contextlib import ExitStack, contextmanager
from io import BytesIO

import numpy as np
import pytest
from running import save_adapter, save_clip, service

import videossp
from conftest import browser_program
from videossp.serving.job_windows import JobWindows
from videossp.watching.watch import watch

playwright = pytest.importorskip("playwright.sync_api", reason="playwright: make test-web installs it")
expect = playwright.expect
pytestmark = pytest.mark.slow  # make test-web

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    # Nothing may leave this machine, not even a question for a name.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
HTML = "<img src=x onerror=alert(1)>"
LONG = "a_class_without_a_space_" * 4
TOKEN = "a-token-of-the-tests"
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (e) => violations.push(`${e.violatedDirective} ${e.blockedURI}`));
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    save_adapter(folder / "one", seed=1)
    save_adapter(folder / "two", seed=2, classes=("red", "green", "blue"))
    save_adapter(folder / HTML, method="linear", classes=(f"<b>{HTML}", LONG))
    for i in range(2):
        save_clip(folder / f"{i}.mp4", seed=i)
    save_clip(folder / "long.mp4", frames=60)
    return folder


@pytest.fixture(scope="module")
def client(root):
    with service([root / x for x in ("one", "two", HTML)], temporary=root) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    program = browser_program()
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser):
    """Opens pages in a context of their own; at the end, nothing was wrong with any of them.

    No request left the service, no policy was violated, no script failed, and no dialog was opened. The
    browser itself reports answers with a status of an error; only `refused` pages may have these.
    """
    contexts, pages, faults = [], [], []

    def show(client, path="/", refused=False, **options):
        # Without motion, the players wait: decoding noise would take the time of the tests.
        contexts.append(browser.new_context(**{"reduced_motion": "reduce", **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(120_000)
        page.add_init_script(VIOLATIONS)
        allowed = (f"{client.url}/", f"blob:{client.url}/", "data:")
        page.on("request", lambda x: x.url.startswith(allowed) or faults.append(x.url))
        page.on("pageerror", lambda x: faults.append(str(x)))
        page.on("dialog", lambda x: (faults.append(f"dialog {x.message}"), x.dismiss()))

        def console(message):
            expected = refused and message.text.startswith("Failed to load resource")
            if message.type in ("error", "warning") and not expected:
                faults.append(message.text)

        page.on("console", console)
        page.goto(client.url + path)
        pages.append(page)
        return page

    yield show
    for page in pages:
        faults += page.evaluate("violations")
    for context in contexts:
        context.close()
    assert faults == []


def choose(page, *names):
    """Check exactly these adapters, as soon as they are listed."""
    boxes = page.locator("input[name=model]")
    boxes.first.wait_for()
    for box in boxes.all():
        box.set_checked(box.get_attribute("value") in names)


def article_of(page, name):
    return page.get_by_role("article", name=name, exact=True)


def upload(page, *files):
    """Choose files, and wait for the result of each."""
    page.set_input_files("#file", files)
    for file in files:
        article_of(page, file.name).locator(".bars").first.wait_for()


def column_of(page, name):
    return page.get_by_role("region", name=f"Adapter {name}", exact=True)


def shown_bars(column):
    """The labels, and the percentages as they are written."""
    bars = column.locator(".bars li")
    return bars.locator(".label").all_inner_texts(), bars.locator(".score").all_inner_texts()


def check_bars(column, folder, video):
    """The bars are the probabilities of the package."""
    (expected,) = videossp.load(folder).predict(video)
    labels, scores = shown_bars(column)
    assert labels == [*expected.probabilities]
    for text, p in zip(scores, expected.probabilities.values(), strict=True):
        check_percent(text, p)
    widths = [x.bounding_box()["width"] for x in column.locator(".share").all()]
    whole = column.locator(".track").first.bounding_box()["width"]
    assert np.allclose(np.divide(widths, whole), [*expected.probabilities.values()], atol=0.02)


def check_percent(text, p):
    """A percentage with one digit is this probability, rounded; 32-bit sums may differ in the sixth digit."""
    assert re.fullmatch(r"\d+\.\d %", text)
    assert float(text.removesuffix(" %")) == pytest.approx(100 * p, abs=0.0505)


def check_number(text, value, digits):
    """A number with these digits and a typographic minus is this value, rounded."""
    assert re.fullmatch(rf"\u2212?\d+\.\d{{{digits}}}", text) and "-" not in text
    assert float(text.replace("\u2212", "-")) == pytest.approx(value, abs=0.5 * 10**-digits + 2e-5)


def explain(page, name):
    """The picture of the explanation of an adapter's first class."""
    column = column_of(page, name)
    column.get_by_role("button", name="Explain").click()
    figure = column.get_by_role("figure")
    figure.wait_for()
    return figure


def downloaded(page, name):
    """The text of a file that a button downloads."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=name).click()
    return waiting.value.path().read_bytes().decode()


@contextmanager
def full(gate):
    """Within this context a gate has no room."""
    with ExitStack() as stack:
        for _ in range(gate.limit):
            stack.enter_context(gate.enter())
        yield


@pytest.fixture
def held(monkeypatch):
    """Jobs stop in the middle of their video until this event is set."""
    go, windows_of = threading.Event(), JobWindows.__iter__

    def slow(self):
        for i, window in enumerate(windows_of(self)):
            if i == 20:
                assert go.wait(60)
            yield window

    monkeypatch.setattr(JobWindows, "__iter__", slow)
    yield go
    go.set()


def seconds_of(clock):
    """0:12.5 or 1:00:12.5 in seconds."""
    total = 0.0
    for part in clock.split(":"):
        total = 60 * total + float(part)
    return total


def test_two_checked_adapters_show_the_probabilities_of_the_package(open_page, client, root):
    page = open_page(client)
    choose(page, "one", "two")
    upload(page, root / "0.mp4")
    columns = page.locator("section[data-model]")
    assert [x.get_attribute("data-model") for x in columns.all()] == ["one", "two"]
    for name in ("one", "two"):
        check_bars(column_of(page, name), root / name, root / "0.mp4")
    expect(page.locator("#status")).to_contain_text("0.mp4: one: ")


def test_several_videos_get_a_result_each_and_the_first_adapter_is_checked_at_first(open_page, client, root):
    page = open_page(client)
    page.locator("input[name=model]").first.wait_for()
    upload(page, root / "0.mp4", root / "1.mp4")
    for name in ("0.mp4", "1.mp4"):
        columns = article_of(page, name).locator("section[data-model]")
        expect(columns).to_have_count(1)
        check_bars(columns, root / "one", root / name)
    choose(page)
    page.set_input_files("#file", root / "0.mp4")
    expect(page.locator("#error")).to_contain_text("Check an adapter first.")
    expect(page.locator("article")).to_have_count(2)


def test_an_explanation_shows_the_numbers_and_the_map_of_the_package(open_page, client, root):
    from PIL import Image

    page = open_page(client)
    choose(page, "two")
    upload(page, root / "0.mp4")
    column_of(page, "two").get_by_label("Class to explain, two").select_option("blue")
    figure = explain(page, "two")
    expected = videossp.explain(videossp.load(root / "two"), root / "0.mp4", target="blue")
    expect(figure.locator(".explained")).to_contain_text("Explained class: blue")
    frames = figure.get_by_role("img")
    expect(frames).to_have_count(len(expected.frames))
    texts = [x.get_attribute("aria-label") for x in frames.all()]
    for i, text in enumerate(texts):
        form = r"Frame (\d+) of (\d+), (\S+) s: drop (\S+) nats, without this frame: (.+)"
        number, count, seconds, drop, other = re.fullmatch(form, text).groups()
        assert (int(number), int(count)) == (i + 1, len(expected.frames))
        check_number(seconds, expected.seconds[i], 2)
        check_number(drop, expected.frame_drops[i], 2)
        assert other == expected.without_frame[i]
    figure.get_by_text("Values of the frames as a table").click()
    rows = [x.locator("td").all_inner_texts() for x in figure.locator("tbody tr").all()]
    for row, drop, other in zip(rows, expected.frame_drops, expected.without_frame, strict=True):
        check_number(row[1], drop, 3)
        assert row[2] == other

    # A pixel of the canvas for a patch: its colour is the sign, its opacity the size.
    canvases = figure.locator("canvas")
    expect(canvases).to_have_count(len(expected.frames))
    strongest, checked = np.quantile(np.abs(expected.map), 0.99), 0
    for canvas, patches in zip(canvases.all(), expected.map, strict=True):
        url = canvas.evaluate("(x) => x.toDataURL()")
        pixels = np.array(Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA"))
        assert np.allclose(pixels[..., 3] / 255, np.minimum(np.abs(patches) / strongest, 1), atol=0.01)
        clear = pixels[..., 3] > 25  # the browser rounds the colours of others
        checked += clear.sum()
        assert ((pixels[..., 0] > pixels[..., 2]) == (patches > 0))[clear].all()
    assert checked > 2


def test_the_opacity_moves_from_the_frame_alone_to_the_map(open_page, client, root):
    from PIL import Image

    page = open_page(client)
    choose(page, "one")
    upload(page, root / "0.mp4")
    figure = explain(page, "one")

    def picture():
        shot = figure.locator(".picture").first.screenshot(animations="disabled")
        return np.array(Image.open(BytesIO(shot)).convert("RGB")).astype(int)

    shown = {}
    for opacity in ("0", "50", "100"):
        figure.get_by_label("Opacity of the map").fill(opacity)
        shown[opacity] = picture()
    figure.locator("canvas").first.evaluate("(x) => x.remove()")
    figure.get_by_label("Opacity of the map").fill("0")
    assert (picture() == shown["0"]).all()
    assert np.ptp(shown["0"], axis=2).mean() > 5  # the frame has its colours
    changes = [np.abs(shown[x] - shown["0"]).mean() for x in ("50", "100")]
    assert changes[0] > 5 and np.abs(shown["100"] - shown["50"]).mean() > 5


def test_the_maps_of_two_adapters_lie_side_by_side_frame_by_frame(open_page, client, root):
    page = open_page(client, viewport={"width": 1280, "height": 800})
    choose(page, "one", "two")
    upload(page, root / "0.mp4")
    places = []
    for name in ("one", "two"):
        figure = explain(page, name)
        places.append([x.bounding_box() for x in figure.locator(".picture").all()])
    places[0] = [x.bounding_box() for x in column_of(page, "one").locator(".picture").all()]
    for left, right in zip(*places, strict=True):
        assert left["y"] == pytest.approx(right["y"], abs=1)
        assert left["x"] + left["width"] < right["x"] and left["width"] > 60
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_broken_file_is_one_sentence_and_the_next_file_works(open_page, client, root, tmp_path):
    page = open_page(client, refused=True)
    choose(page, "one")
    whole = (root / "0.mp4").read_bytes()
    for name, content, reason in (
        ("half.mp4", whole[: len(whole) // 2], "truncated"),
        ("text.mp4", b"This is no video.\n" * 50, "not a readable video"),
        ("empty.mp4", b"", "empty"),
    ):
        broken = tmp_path / name
        broken.write_bytes(content)
        sentence = client.post("/v1/predict?model=one", broken).error
        assert reason in sentence
        page.set_input_files("#file", broken)
        expect(page.locator("#error p")).to_have_text(f"{name}: {sentence}")
        expect(article_of(page, name).locator(".problem")).to_have_text(sentence)
    expect(page.locator("#earlier")).to_be_hidden()
    upload(page, root / "0.mp4")
    check_bars(article_of(page, "0.mp4").locator("section[data-model]"), root / "one", root / "0.mp4")
    expect(page.locator("#error")).to_be_empty()


FOCUS = """() => {
  const focused = document.activeElement;
  if (!focused || focused === document.body) return null;
  const marked = focused.id === "file" ? document.querySelector("label[for=file]") : focused;
  const style = getComputedStyle(marked);
  const { top, bottom, width, height } = marked.getBoundingClientRect();
  return {
    text: focused.id || focused.value || focused.innerText || focused.tagName,
    // Within a player, the browser draws the focus around its own buttons.
    seen: focused.matches("video:not(:focus)") || style.outlineStyle !== "none"
      && parseFloat(style.outlineWidth) >= 1 && width > 1 && height > 1
      && bottom > 0 && top < innerHeight,
  };
}"""


def press_until(page, wanted, key="Tab", most=60):
    """Press Tab until an element is focused, or until the focus leaves the page; every stop is visible."""
    stops = []
    for _ in range(most):
        page.keyboard.press(key)
        stop = page.evaluate(FOCUS)
        if stop is None:
            assert wanted is None, f"not reached: {stops}"
            return stops
        assert stop["seen"], f"the focus cannot be seen at {stop['text']}"
        stops.append(stop["text"])
        if wanted is not None and page.locator(wanted).first.evaluate("(x) => x === document.activeElement"):
            return stops
    pytest.fail(f"{wanted or 'the end'} is not reached: {stops}")


def test_everything_can_be_done_with_the_keyboard_and_the_focus_is_visible(open_page, client, root):
    page = open_page(client)
    page.locator("input[name=model]").first.wait_for()
    press_until(page, "input[value=two]")
    page.keyboard.press("Space")
    assert page.locator("input[value=two]").is_checked()
    press_until(page, "#file")
    page.set_input_files("#file", root / "0.mp4")  # the dialog is the system's
    page.locator(".bars").nth(1).wait_for()
    press_until(page, "[data-model=two] .explain")
    page.keyboard.press("Enter")
    column_of(page, "two").get_by_role("figure").wait_for()
    press_until(page, "[data-model=two] input[type=range]")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert page.locator("[data-model=two] input[type=range]").input_value() == "70"
    press_until(page, "[data-model=two] summary")
    page.keyboard.press("Enter")
    expect(column_of(page, "two").get_by_role("table")).to_be_visible()
    press_until(page, "#download-json")
    with page.expect_download() as waiting:
        page.keyboard.press("Enter")
    assert len(json.loads(waiting.value.path().read_bytes())) == 2
    rest = press_until(page, None)
    assert "0.mp4" in rest and "API" in rest
    back = press_until(page, None, key="Shift+Tab")
    assert {"one", "two", "file", "record", "download-json"} <= {*back}


def test_the_focus_stays_in_the_result_when_its_element_goes(open_page, client, root):
    page = open_page(client, refused=True)
    choose(page, "one")
    focused = page.locator(":focus")
    with full(client.service.gate):
        page.set_input_files("#file", root / "0.mp4")
        page.get_by_role("button", name="Cancel: 0.mp4").press("Enter")
        expect(focused).to_have_text("Cancelled.")
    page.get_by_role("button", name="Predict again: 0.mp4").press("Enter")
    page.locator(".bars").wait_for()
    page.get_by_role("button", name="Close: 0.mp4").press("Enter")
    expect(focused).to_have_id("file")
    choose(page)
    page.set_input_files("#file", root / "0.mp4")
    page.get_by_role("button", name="Close message").press("Enter")
    expect(focused).to_have_id("file")


COLOURS = """(element) => {
  let behind = element;
  while (/rgba\\(.*, 0\\)/.test(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
  return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
}"""


def contrast(colours):
    """The contrast of two colours "rgb(r, g, b)", by the formula of WCAG 2."""
    levels = []
    for colour in colours:
        x = np.array([int(x) for x in re.findall(r"\d+", colour)[:3]]) / 255
        linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
        levels.append(linear @ [0.2126, 0.7152, 0.0722])
    return (max(levels) + 0.05) / (min(levels) + 0.05)


def test_names_of_files_classes_and_adapters_are_text(open_page, client, root, tmp_path):
    page = open_page(client)
    choose(page, HTML)
    video = tmp_path / f"{HTML}.mp4"
    shutil.copy(root / "0.mp4", video)
    upload(page, video)
    column = column_of(page, HTML)
    check_bars(column, root / HTML, video)
    assert f"<b>{HTML}" in shown_bars(column)[0]
    explain(page, HTML)
    page.get_by_role("button", name="Find segments (long video)").click()
    page.get_by_text("1 segment, adapter").wait_for()
    shown = page.locator("body").inner_text()
    assert shown.count(HTML) > 10
    expect(page.locator("img[src=x]")).to_have_count(0)
    expect(page.locator(".bars b, option b, td b")).to_have_count(0)


def test_a_recording_of_the_camera_is_classified(open_page, client):
    page = open_page(client)
    choose(page, "one")
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_text("2 s recorded.").wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    bars = page.locator(".bars")
    bars.wait_for()
    labels, scores = shown_bars(page)
    assert {*labels} == {"bright", "dark"}
    assert sum(float(x.removesuffix(" %")) for x in scores) == pytest.approx(100, abs=0.1)
    assert re.fullmatch(r"camera-[\d-]{8}\.webm", page.locator("article").get_attribute("data-file"))
    video = page.locator(".player video")
    expect(video).to_be_visible()
    assert video.evaluate("(x) => [x.videoWidth > 0, x.error]") == [True, None]
    expect(page.locator("#preview")).to_be_hidden()
    assert page.locator("#preview").evaluate("(x) => x.srcObject") is None  # the camera is off


def test_the_table_of_segments_is_that_of_watch_and_the_progress_is_shown(open_page, client, root, held):
    page = open_page(client)
    choose(page, "two")
    upload(page, root / "long.mp4")
    with page.expect_request(lambda x: "/v1/jobs/" in x.url) as asked:
        page.get_by_role("button", name="Find segments (long video)").click()
    job = asked.value.url.removeprefix(client.url)
    progress = page.get_by_role("progressbar", name="Progress of long.mp4")
    expect(progress).to_have_attribute("value", re.compile(r"0\.[1-9]"))
    expect(page.locator(".segments .task")).to_contain_text("Finding segments: ")
    held.set()
    page.get_by_role("button", name="Download segments (CSV)").wait_for()
    expect(page.locator(".segments .task")).to_have_count(0)
    expected = [*watch(videossp.load(root / "two"), root / "long.mp4")]
    answer = client.get(job).json
    assert answer["status"] == "done" and len(answer["segments"]) == len(expected) > 1
    rows = [x.locator("td").all_inner_texts() for x in page.locator(".segments tbody tr").all()]
    for (start, end, label, probability), x in zip(rows, expected, strict=True):
        assert (seconds_of(start), seconds_of(end)) == pytest.approx((x.start, x.end), abs=0.0501)
        assert label == x.label
        check_percent(probability, x.probability)
    _, *lines = csv.reader(downloaded(page, "Download segments (CSV)").splitlines())
    for line, x in zip(lines, expected, strict=True):
        assert [*map(float, line[:2])] == [x.start, x.end] and line[2] == x.label
    page.locator(".segments tbody button").last.click()
    assert page.locator(".player video").evaluate("(x) => x.currentTime") >= expected[-1].start - 0.05


def test_a_cancelled_job_ends_on_the_server_too(open_page, client, root, held):
    page = open_page(client)
    choose(page, "two")
    upload(page, root / "long.mp4")
    page.get_by_role("button", name="Find segments (long video)").click()
    expect(page.locator(".segments .task")).to_contain_text("Finding segments: ")
    with page.expect_response(lambda x: x.request.method == "DELETE") as deleted:
        page.get_by_role("button", name="Cancel: long.mp4").click()
    expect(page.locator(".segments").get_by_text("Cancelled.")).to_be_visible()
    held.set()
    assert client.until_finished(deleted.value.url.rpartition("/")[2])["status"] == "cancelled"


def test_windows_that_cannot_be_are_refused_on_the_page(open_page, client, root):
    page = open_page(client, refused=True)
    choose(page, "two")
    upload(page, root / "long.mp4")
    page.get_by_text("Length of the windows").click()
    page.get_by_label("Window (s)").fill("0")
    page.get_by_role("button", name="Find segments (long video)").click()
    expect(page.locator("#error")).to_contain_text("at least 0.1")
    page.get_by_label("Window (s)").fill("1")
    page.get_by_label("Hop (s)").fill("0.3")
    page.get_by_role("button", name="Find segments (long video)").click()
    sentence = client.post("/v1/jobs?model=two&window=1&hop=0.3", root / "long.mp4").error
    assert "no whole number of hops" in sentence
    expect(page.locator("#error p")).to_have_text(f"long.mp4: {sentence}")


def test_past_results_are_a_table_and_files_of_the_same_numbers(open_page, client, root, tmp_path):
    page = open_page(client)
    choose(page, "one", "two")
    formula = tmp_path / '=HYPERLINK("x";"a,b").mp4'
    shutil.copy(root / "1.mp4", formula)
    upload(page, root / "0.mp4", formula)
    rows = [x.locator("td").all_inner_texts() for x in page.locator("#past tbody tr").all()]
    order = [(formula, "one"), (formula, "two"), (root / "0.mp4", "one"), (root / "0.mp4", "two")]
    entries = json.loads(downloaded(page, "Download JSON"))
    header, *lines = csv.reader(downloaded(page, "Download CSV").splitlines())
    assert header == ["time", "file", "model", "rank", "label", "score"]
    for row, entry, (video, name) in zip(rows, entries, order, strict=True):
        (expected,) = videossp.load(root / name).predict(video)
        assert row[1:4] == [video.name, name, expected.label]
        check_percent(row[4], expected.probabilities[expected.label])
        assert (entry["file"], entry["model"]) == (video.name, name)
        found = {x["label"]: x["score"] for x in entry["predictions"]}
        assert found == pytest.approx(expected.probabilities, abs=1e-5)
        own = [x for x in lines if x[2] == name and x[1].lstrip("'") == video.name]
        assert [x[3:5] for x in own] == [[str(i + 1), x] for i, x in enumerate(expected.probabilities)]
        assert [float(x[5]) for x in own] == [*found.values()]
        assert all((x[0], x[1][0] == "'") == (entry["time"], video is formula) for x in own)
    assert len(lines) == 2 * (2 + 3)
    assert len({x["time"] for x in entries}) == 2  # one for each video


def test_a_closed_result_comes_back_from_the_table(open_page, client, root):
    page = open_page(client)
    choose(page, "one")
    upload(page, root / "0.mp4")
    page.get_by_role("button", name="Close: 0.mp4").click()
    expect(page.locator("#shown")).to_be_hidden()
    page.locator("#past").get_by_role("button", name="0.mp4").click()
    check_bars(column_of(page, "one"), root / "one", root / "0.mp4")
    expect(column_of(page, "one").get_by_role("heading")).to_be_focused()


def test_a_token_is_asked_for_and_only_the_right_one_opens_the_list(open_page, root):
    with service([root / "one"], token=TOKEN, temporary=root) as client:
        page = open_page(client, refused=True)
        field, note = page.get_by_label("Token of this server"), page.locator("#token-note")
        expect(field).to_be_focused()
        for wrong, reason in (("wrong", "did not accept"), ("w\u00f6rng", "ASCII")):
            field.fill(wrong)
            field.press("Enter")
            expect(note).to_contain_text(reason)
            expect(page.locator("input[name=model]")).to_have_count(0)
        field.fill(TOKEN)
        page.get_by_role("button", name="Continue").click()
        choose(page, "one")
        expect(page.locator("#token-form")).to_be_hidden()
        upload(page, root / "0.mp4")
        check_bars(column_of(page, "one"), root / "one", root / "0.mp4")
        page.reload()
        choose(page, "one")  # the tab keeps the token
        assert TOKEN not in page.url
        assert open_page(client, refused=True).get_by_label("Token of this server").input_value() == ""


def test_a_phone_shows_everything_without_scrolling_sideways(open_page, client, root, tmp_path):
    page = open_page(client, **PHONE)
    choose(page, "one", HTML)
    video = tmp_path / f"{LONG}.mp4"
    shutil.copy(root / "0.mp4", video)
    upload(page, video)
    for name in ("one", HTML):
        explain(page, name).get_by_text("Values of the frames as a table").click()
    page.get_by_text("Length of the windows").click()
    page.get_by_role("button", name="Find segments (long video)").click()
    page.get_by_role("button", name="Download segments (CSV)").wait_for()
    assert page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    for item in page.locator("button:visible, select:visible, canvas, label.button, summary").all():
        box = item.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360, item.inner_text()


def test_a_whole_visit_asks_no_other_server_and_breaks_no_policy(open_page, client, root):
    page = open_page(client, reduced_motion="no-preference")  # which checks this at its end
    choose(page, "one", "two")
    upload(page, root / "0.mp4")
    explain(page, "one")
    page.get_by_role("button", name="Predict again: 0.mp4").click()
    expect(page.locator("#past tbody tr")).to_have_count(4)
    page.get_by_role("button", name="Find segments (long video)").click()
    page.get_by_role("button", name="Download segments (CSV)").wait_for()
    for name in ("Download segments (CSV)", "Download JSON", "Download CSV"):
        downloaded(page, name)
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Close camera").click()
    assert page.locator(".player video").evaluate("(x) => x.currentTime") > 0  # it plays


def test_texts_stand_out_in_both_colour_schemes(open_page, client, root):
    page = open_page(client)
    choose(page, "one")
    upload(page, root / "0.mp4")
    grounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for selector in ("h1", ".note", "#limits", ".bars .label", "button.find", "label.button", "footer a"):
            colours = page.locator(selector).first.evaluate(COLOURS)
            assert contrast(colours) >= 4.5, (scheme, selector)  # of WCAG 2
        grounds.append(page.locator("h1").evaluate(COLOURS)[1])
    assert contrast(grounds) > 10


def test_the_documentation_shows_every_operation_and_breaks_no_policy(open_page, client):
    page = open_page(client, "/docs", refused=True)
    document = client.get("/openapi.json").json
    count = sum(len(x) for x in document["paths"].values())
    expect(page.locator(".opblock")).to_have_count(count)
    page.locator("#operations-health-live_health_live_get button").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table")).to_contain_text('"status": "live"')


def test_a_busy_server_is_tried_again(open_page, client, root):
    page = open_page(client, refused=True)
    choose(page, "one")
    with full(client.service.gate):
        page.set_input_files("#file", root / "0.mp4")
        expect(page.locator(".task")).to_have_text(re.compile(r"busy\. Trying again in 1 s \(1 of 3\)"))
    page.locator(".bars").wait_for()
    check_bars(column_of(page, "one"), root / "one", root / "0.mp4")


def test_a_server_that_stays_busy_is_an_error_and_can_be_tried_again(open_page, client, root):
    page = open_page(client, refused=True)
    choose(page, "one")
    page.clock.install()
    with full(client.service.gate):
        page.set_input_files("#file", root / "0.mp4")
        for i in (1, 2, 3):
            page.get_by_text(f"({i} of 3)").first.wait_for()
            page.clock.fast_forward(1000)
        expect(page.locator("#error")).to_contain_text("too many requests")
    page.get_by_role("button", name="Predict again: 0.mp4").click()
    check_bars(column_of(page, "one"), root / "one", root / "0.mp4")


def test_a_dropped_video_is_classified(open_page, client, root):
    page = open_page(client)
    choose(page, "two")
    transfer = page.evaluate_handle(
        """(bytes) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], "dropped.mp4", { type: "video/mp4" }));
          return transfer;
        }""",
        [*(root / "1.mp4").read_bytes()],
    )
    body = page.locator("body")
    page.dispatch_event("#drop", "dragenter", {"dataTransfer": transfer})
    expect(body).to_have_class("dropping")
    page.dispatch_event("#drop", "dragover", {"dataTransfer": transfer})
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(body).to_have_class("")
    article_of(page, "dropped.mp4").locator(".bars").wait_for()
    check_bars(column_of(page, "two"), root / "two", root / "1.mp4")
