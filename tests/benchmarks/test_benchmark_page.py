"""benchmarks/page.py and page_*.py: the tables of the pages follow from the results files."""

import math
from statistics import variance

import pytest
from PIL import Image

from videossp.classifier import Classifier
from videossp.comparison.intervals import over_videos, wilson


@pytest.fixture
def page(benchmarks):
    return benchmarks("page")


@pytest.fixture
def methods(page):
    return page.methods


@pytest.fixture
def findings(benchmarks):
    findings = benchmarks("findings")
    yield findings
    findings.over_seeds.cache_clear()


@pytest.fixture
def put(page, findings, monkeypatch):
    """put(runs): the results are these runs of one set and nothing else."""

    def put(runs, of="motion"):
        findings.over_seeds.cache_clear()
        for module in (page.methods, findings):
            monkeypatch.setattr(module, "load", lambda name: runs if name == of else [])
        monkeypatch.setattr(findings, "load_search", lambda name: runs if name == of else [])
        for module in (page.ablations, findings):
            monkeypatch.setattr(module, "read", lambda name: [])

    return put


@pytest.mark.parametrize("name", ["benchmark-notes.md", "benchmarks.md", "explain.md", "weights.md"])
def test_the_pages_are_up_to_date(page, name):
    text = (page.DOCS / name).read_text(encoding="utf-8")
    assert page.BLOCK.search(text)
    assert page.updated(text) == text, "run make bench-table"


def test_the_plots_are_up_to_date(page):
    for name, (_, sources) in page.PLOTS.items():
        with Image.open(page.DOCS / name) as picture:
            assert picture.info[page.MARK] == page.digest(sources), "run make bench-table"


def run(methods, row, lr, seed, val, hits, name="motion", **more):
    shared = {
        "parameters": 10,
        "all_parameters": 100,
        "method_parameters": 4,
        "adapter_mb": 1.0,
        "error": None,
    }
    shared |= {"videos": len(hits), "memory_gb": 1.0, "seconds_per_clip": 0.1, "minutes": 2.0}
    shared |= {
        "val_top1": val,
        "val_loss": 1.0,
        "loss": 2.0,
        "top1": hits.count("1") / len(hits),
        "hits": hits,
        **more,
    }
    return methods.Cell(name, row, lr, seed).asked | shared


def test_a_row_shows_the_rate_that_validation_chose_not_the_best_on_test(methods, findings, put):
    runs = [
        run(methods, "ssp", 3e-4, 0, 0.5, "0000"),
        run(methods, "ssp", 1e-3, 0, 0.6, "1100"),
        run(methods, "ssp", 3e-3, 0, 0.5, "1111"),  # better on test, worse on validation
        run(methods, "ssp", 1e-3, 1, 0.1, "1110"),
        run(methods, "ssp", 1e-2, 0, 0.9, "1111", batch_size=1),  # with other settings
        run(methods, "linear", 1e-3, 0, 0.4, "1000"),
        run(methods, "vpt", 1e-3, 0, 0.0, "0000", error="RuntimeError: no"),
    ]
    put(runs)
    rows = findings.by_row("motion", ["ssp", "linear", "full", "vpt"])
    assert "linear" in findings.by_row(
        "motion", ["full", "linear"]
    )  # without a difference, not with one to the next row
    assert findings.by_row("motion", ["full", "linear"])["linear"]["difference"] is None
    assert {title: x["top1"] for title, x in rows.items()} == {"ssp": 0.625, "linear": 0.25}
    assert rows["linear"]["difference"] == -0.375  # to the mean of both seeds
    lines = methods.main_table().splitlines()
    assert lines[0] == "|  | motion | all sets |" and lines[2].startswith("| ssp | 62.5 (")
    assert "2 seeds" in lines[2] and any(x.startswith("| linear | 25.0* (") for x in lines)
    assert "| full |  |  |" in lines and "| vpt |  |  |" in lines
    assert "| linear |  |  |" in methods.differences("ssp")  # one of linear's rates has not been tried
    put([*runs, run(methods, "linear", 3e-4, 0, 0.1, "1000"), run(methods, "linear", 3e-3, 0, 0.1, "1000")])
    assert "| linear | -37.5 ±" in methods.differences("ssp") and "| linear | 25.0 (" in methods.main_table()
    by_rate = methods.by_rate().splitlines()
    assert "| ssp |  | 50.0 / 0.0 | **60.0 / 50.0** | 50.0 / 100.0 |  |  |" in by_rate
    assert "| vpt |  |  | **failed** |  |  |  |" in by_rate


def test_holm_corrects_for_the_number_of_differences(findings):
    def row(low, high):
        return {"difference": (low + high) / 2, "difference_low": low, "difference_high": high}

    p = findings.p_value
    assert p(row(0.0, 0.2)) == pytest.approx(0.05, abs=1e-4)  # the interval just reaches zero
    assert p(row(-0.1, 0.1)) == 1.0
    assert findings.holm({"a": row(0.001, 0.2)}) == {"a"}
    assert findings.holm({"a": row(0.001, 0.2), "b": row(-0.1, 0.1)}) == set()  # needs half of 0.05
    assert findings.holm({"a": row(0.001, 0.2), "b": None}) == set()  # missing rows count too
    many = {"a": row(0.5, 0.6), "b": row(0.001, 0.2), "c": row(0.4, 0.5)}
    assert findings.holm(many) == {"a", "b", "c"}  # the least of three needs 0.05 only
    assert findings.holm({**many, "d": row(-0.1, 0.1)}) == {"a", "c"}


def test_the_lead_in_the_paper_table_is_that_of_the_first_row(methods, put):
    hits = dict.fromkeys(methods.RIVALS, "1000") | {"vpt": "1100", "ssp": "1110"}
    tried = ((3e-4, 0.1), (1e-3, 0.5), (3e-3, 0.1))
    runs = [run(methods, x, lr, 0, val, own) for x, own in hits.items() for lr, val in tried]
    put([x for x in runs if (x["row"], x["lr"]) != ("svp", 3e-4)])
    assert "| HMDB51 | +3.00 | motion |  |  |  |" in methods.paper()  # a rate of svp has not been tried
    put(runs)
    line = next(x for x in methods.paper().splitlines() if "motion" in x)
    assert line.startswith("| HMDB51 | +3.00 | motion | +50.0 ±") and "| vpt | +25.0 ±" in line
    assert methods.paper().splitlines()[-1] == "| all sets | +2.76 |  |  |  |  |"  # no mean of one set


def test_a_mean_over_sets_has_the_interval_of_independent_sets(methods, findings):
    rows = [
        {"difference": x, "difference_low": x - 0.02, "difference_high": x + 0.04} for x in (0.1, 0.2, 0.3)
    ]
    mean = findings.over_sets([*rows, rows[1]], "difference")
    assert mean["difference"] == pytest.approx(0.2)
    assert mean["difference_low"] == pytest.approx(0.2 - 0.02 / 2)  # 2 is the root of 4
    assert mean["difference_high"] == pytest.approx(0.2 + 0.04 / 2)
    assert methods.gap(mean) == "+20.0 ± 1.5" and methods.gap(mean, -1) == "-20.0 ± 1.5"
    assert findings.over_sets([*rows, None], "difference") is None
    assert findings.over_sets([*rows, {"difference": None}], "difference") is None


def test_the_time_of_a_row_is_that_of_its_fastest_run_at_any_rate(methods, put):
    runs = [
        run(methods, "ssp", 1e-3, 0, 0.6, "11", seconds_per_clip=0.2),
        run(methods, "ssp", 3e-3, 0, 0.5, "11", seconds_per_clip=0.1, minutes=1.5),
        run(methods, "ssp", 1e-2, 0, 0.4, "11", seconds_per_clip=0.01, batch_size=1),  # with other settings
        run(methods, "ssp", 3e-2, 0, 0.4, "11", seconds_per_clip=0.01, error="RuntimeError: no"),
    ]
    put(runs)
    assert methods.costs("motion").splitlines()[-1] == "| ssp | 4 | 10 | 10.0 | 100 | 1.5 | 1.00 | 1.00 |"


def test_every_block_can_be_generated_without_results(page, put):
    put([])
    assert all(len(block().splitlines()) >= 2 for block in page.BLOCKS.values())


def test_the_results_are_of_the_bundled_weights(page, methods, findings):
    backbone = Classifier.create(page.ablations.BACKBONE, num_classes=2, method="linear").sha256
    for name in methods.FRAMES:
        own = [x for x in methods.load(name) if x["backbone"] == page.ablations.BACKBONE]
        assert {x["backbone_sha256"] for x in own} <= {backbone}
    # The weights of a run have positions resized to the frames of its clips.
    run = {
        name: Classifier.create(page.ablations.BACKBONE, num_classes=2, method="linear", frames=frames).sha256
        for name, frames in methods.FRAMES.items()
    }
    inside = findings.read(findings.RESULTS / "inside.json")
    assert all(x["backbone_sha256"] == run[x["set"]] for x in inside) and len(set(run.values())) == 2
    shipped = [
        x for x in findings.read(findings.RESULTS / "probes.json") if x["backbone"] == page.ablations.BACKBONE
    ]
    assert {x["sha256"] for x in shipped} <= {backbone}


def test_both_rules_for_the_rate_are_compared(methods, put):
    runs = [
        run(methods, "ssp", 1e-3, 0, 0.6, "1000", val_loss=0.5),  # most accurate
        run(methods, "ssp", 3e-3, 0, 0.5, "1100", val_loss=0.4),  # least loss: the rule takes this
        run(methods, "ssp", 3e-4, 0, 0.1, "1110"),  # best on test
        run(methods, "ssp", 1e-3, 1, 0.9, "1111"),  # another seed
        run(methods, "vpt", 1e-3, 0, 0.0, "0000", error="RuntimeError: no"),
    ]
    put(runs)
    assert methods.rules().splitlines()[2:] == [
        "| rows with the best rate | 0 / 0 of 0 |",
        "| mean gap to the best rate, points |  |",
    ]
    runs.append(run(methods, "ssp", 1e-2, 0, 0.1, "0000"))  # the last rate of the search
    put(runs)
    assert methods.rules().splitlines()[2:] == [
        "| rows with the best rate | 0 / 0 of 1 |",
        "| mean gap to the best rate, points | 25.0 / 50.0 |",
    ]
    tried = ((3e-4, 0.8), (1e-3, 0.6), (3e-3, 0.7))
    runs += [run(methods, "linear", lr, 0, 0.5, "1100", val_loss=loss) for lr, loss in tried]
    put(runs)
    assert methods.rules().splitlines()[2:] == [
        "| rows with the best rate | 1 / 1 of 2 |",
        "| mean gap to the best rate, points | 12.5 / 25.0 |",
    ]


def test_losses_are_those_of_the_chosen_rate_with_their_rank(methods, put):
    runs = [
        run(methods, "ssp", 1e-3, 0, 0.6, "1000", loss=1.5),
        run(methods, "ssp", 1e-3, 1, 0.6, "1000", loss=1.7),
        run(methods, "ssp", 3e-3, 0, 0.5, "1100", loss=0.1),
        run(methods, "linear", 1e-3, 0, 0.6, "1000", loss=1.2),
        run(methods, "vpt", 1e-3, 0, 0.0, "0000", error="RuntimeError: no"),
    ]
    put(runs)
    lines = methods.losses().splitlines()
    assert "| ssp | 1.600* (2) |" in lines and "| linear | 1.200* (1) |" in lines and "| vpt |  |" in lines


def test_rows_with_one_seed_use_the_pooled_variance_over_seeds(methods, findings, put):
    base, other = "11" + 4 * "1100" + "00", "1" * 10 + "0" * 10
    runs = [run(methods, "ssp", 1e-3, i, 0.6, x) for i, x in enumerate((base, "1" * 14 + "0" * 6, base))]
    runs += [run(methods, "linear", 1e-3, i, 0.6, other[i:] + "0" * i) for i in range(2)]
    runs.append(run(methods, "linear", 1e-3, 2, 0.6, "1" * 20, error="RuntimeError: no"))
    runs.append(run(methods, "mean", 1e-3, 0, 0.6, other))
    put(runs)
    # The sum of squares of ssp (0.5, 0.7, 0.5; two degrees of freedom) and of linear (0.5, 0.45; one), minus
    # the variance from single videos, a twentieth of theirs in a mean of 20.
    hits = [[int(x) for x in runs[i]["hits"]] for i in range(5)]
    single = [sum(variance(x) for x in zip(*own, strict=True)) / 20 / 20 for own in (hits[:3], hits[3:])]
    pooled = (0.08 / 3 + 0.0025 / 2 - 2 * single[0] - single[1]) / 3
    assert findings.seeds_apart() == (3, pytest.approx(pooled)) and pooled > 0.004
    half = 3.182 * math.sqrt(pooled)
    assert methods.seeds().splitlines()[-1] == f"| 3 | {100 * math.sqrt(pooled):.2f} | {100 * half:.1f} |"
    rows = findings.by_row("motion", ["ssp", "linear", "mean"])
    low, high = wilson(0.5, 20)
    bounds = rows["mean"]["top1_low"], rows["mean"]["top1_high"]
    assert bounds == pytest.approx((0.5 - math.hypot(0.5 - low, half), 0.5 + math.hypot(high - 0.5, half)))
    low = wilson(0.475, 20)[0]
    assert rows["linear"]["top1_low"] == pytest.approx(0.475 - math.hypot(0.475 - low, half / math.sqrt(2)))
    by_video = [sum(x) / 3 for x in zip(*hits[:3], strict=True)]
    for title, own, count in (("mean", [[int(x) for x in other]], 1), ("linear", hits[3:], 2)):
        gaps = [sum(x) / count - y for *x, y in zip(*own, by_video, strict=True)]
        middle, least, most = over_videos(gaps)
        seeds = half * math.sqrt(1 / count + 1 / 3)  # both rows vary over seeds
        actual = [rows[title][f"difference{end}"] for end in ("", "_low", "_high")]
        ends = middle - math.hypot(middle - least, seeds), middle + math.hypot(most - middle, seeds)
        assert actual == pytest.approx([middle, *ends])
    assert rows["ssp"]["difference"] is None
    put([x for x in runs if x["seed"] == 0])
    assert findings.seeds_apart() == (0, 0.0)  # no row has several seeds
    assert findings.by_row("motion", ["mean"])["mean"]["top1_high"] == pytest.approx(high)


def test_a_row_whose_first_seed_is_still_running_is_not_shown(page, methods, put):
    runs = [run(methods, "ssp", 1e-3, seed, 0.6, "1100", name="tabletop") for seed in (0, 1)]
    put([*runs, run(methods, "gathering alone", 1e-3, 1, 0.6, "1110", name="tabletop")], of="tabletop")
    assert "| gathering alone | ssp |  |  |" in page.ablations.ablations()


def test_runs_whose_last_epoch_is_the_best_are_counted(benchmarks, methods, put):
    epochs = benchmarks("rows").EPOCHS["motion"]
    runs = [run(methods, "ssp", 1e-3, seed, 0.6, "11", best_epoch=epochs - seed) for seed in (0, 1, 2)]
    runs.append(run(methods, "ssp", 3e-3, 0, 0.5, "11", best_epoch=epochs))  # not the rate of the table
    put([*runs, run(methods, "vpt", 1e-3, 0, 0.0, "00", error="RuntimeError: no")])
    assert methods.rising().splitlines()[2:] == ["| runs | 3 |", "| last epoch best | 1 |"]


def test_the_parts_of_a_trained_run_are_one_line(page, monkeypatch):
    more = {"in_clip": 0.9, "in_all": 0.8}
    sizes = [{"prompt": 9.0, "slots": 0.0, "weights": 0.9} | more]  # of the first block, which has no slots
    sizes += [{"prompt": x, "slots": 1000 * x, "weights": x} | more for x in (0.1, 0.2, 0.4)]
    run = {"set": "motion", "lr": 0.01, "seed": 0}
    rows = [run | {"off": "nothing", "top1": 0.5, "hits": "1100", "sizes": sizes}]
    rows += [run | {"off": "gathering", "top1": 0.25, "hits": "1000"}, rows[0] | {"seed": 1}]
    monkeypatch.setattr(page.ablations, "read", lambda name: rows)
    _, low, high = over_videos([0, -1, 0, 0])
    assert page.ablations.inside().splitlines()[2:] == [
        f"| motion, 0.01, 0 | 50.0 | -25.0 ± {50 * (high - low):.1f} | 0.20 | 200 | 90 % | 80 % | 40 % |",
        "| motion, 0.01, 1 | 50.0 |  | 0.20 | 200 | 90 % | 80 % | 40 % |",
    ]


def test_ablations_significant_after_correction_are_bold(page, methods, findings, put):
    hits = {"ssp": "1" * 40, "drop path 0.4": "0" * 40, "8 prompts a frame": "1" * 34 + "0" * 6}
    put([run(methods, x, 1e-3, 0, 0.5, own, name="tabletop") for x, own in hits.items()], of="tabletop")
    rows = findings.by_row("tabletop", list(hits))
    assert findings.p_value(rows["8 prompts a frame"]) < 0.05
    lines = {x.split(" | ")[0][2:]: x.split(" | ") for x in page.ablations.ablations().splitlines()}
    assert lines["drop path 0.4"][1] == lines["8 prompts a frame"][1] == "ssp"
    assert lines["drop path 0.4"][3].startswith("**-100.0 ±")
    assert lines["8 prompts a frame"][3].startswith("-15.0")  # sure alone, but not of so many
    assert lines["ssp"][3] == lines["twice the epochs"][3] == ""


def test_the_gain_of_the_first_row_by_backbone_weights(page, methods, put):
    def own(row, hits):
        return run(methods, row, 1e-3, 0, 0.5, hits, name="tabletop")

    runs = [own("ssp", "11111111"), own("linear", "11110000")]
    runs += [own("random weights", "11000000"), own("linear, random weights", "11100000")]
    put(runs, of="tabletop")
    lines = {x.split(" | ")[0][2:]: x.split(" | ") for x in page.ablations.pretrained().splitlines()}
    assert lines["weights"][1:4] == ["tabletop, ssp", "tabletop, linear", "tabletop, difference"]
    bundled, random = (lines[x][1:4] for x in (page.ablations.BACKBONE, "random"))
    assert bundled[0].startswith("100.0") and bundled[1].startswith("50.0") and bundled[2].startswith("+50.0")
    assert random[0].startswith("25.0") and random[1].startswith("37.5") and random[2].startswith("-12.5")
    assert lines["short"][1:4] == ["", "", ""]


def test_the_design_table_shows_the_rate_with_the_lowest_loss_of_both_rounds(
    page, methods, findings, monkeypatch
):
    def searched(lr, loss, name="motion"):
        return run(methods, "ssp", lr, 0, 0.5, "1", name=name, val_loss=loss)

    runs = [
        searched(1e-3, 1.2),
        searched(3e-3, 1.1),
        searched(1e-2, 1.0, "design/motion"),
        searched(3e-2, 1.3),
    ]
    for module in (findings, page.design):
        monkeypatch.setattr(module, "load_search", lambda name: runs if name == "design/motion" else [])
    header, _, line = page.design.design().splitlines()
    assert header.split(" | ")[2] == "motion"
    assert line == "| ssp |  | 50.0, 1.000 (0.01) |  |  |  |"


def test_the_papers_table_gives_its_leads(page, benchmarks):
    paper = benchmarks("paper")
    assert [paper.lead(x) for x in ("motion", "tabletop", "sprites", "recipes")] == [3.0, 4.64, 0.26, 3.13]
    assert page.methods.reported().splitlines()[-1] == "| ssp | 2.41 | 76.66 | 53.72 | 97.03 | 93.23 |"
