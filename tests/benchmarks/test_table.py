"""benchmarks/table.py and rows.py: which runs start, and that finished runs do not run again."""

import argparse
from pathlib import Path

import pytest

STAMP = {"annotation": "a", "backbone_sha256": "new"}


@pytest.fixture
def table(benchmarks, monkeypatch, tmp_path):
    module = benchmarks("table")
    monkeypatch.setattr(benchmarks("records"), "RESULTS", tmp_path)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


@pytest.fixture
def rows(benchmarks):
    return benchmarks("rows")


@pytest.fixture(autouse=True)
def set_constants(rows, table, monkeypatch):
    """set_constants(NAME=value) replaces constants of rows.py wherever they are used."""

    def set_constants(**constants):
        for name, value in constants.items():
            for module in (rows, table):
                monkeypatch.setattr(module, name, value, raising=module is rows)

    kernel = {"gather_kernel": (1, 3, 3)}
    ablated = dict.fromkeys(("tabletop", "sprites"), ("longer", "shorter"))
    set_constants(
        ROWS={"ssp": rows.Row("ssp", kernel), "full": rows.Row("full")},
        NEW={"moments": rows.Row("moments")},
        ABLATIONS={"longer": rows.Row("ssp", times=9)},
        ABLATED=ablated | {"motion": ("shorter",)},
    )
    return set_constants


def arguments(**more):
    return argparse.Namespace(processes=2, minutes=1, sets=Path("sets"), work=None, backbones=None, **more)


def finished(cell, val):
    return cell.asked | {"error": None, "val_top1": val, "val_loss": 1.0, "top1": val}


def test_the_next_rate_is_tried_while_the_best_is_at_an_end(rows):
    def rates(tried):
        return rows.rates("motion", {lr: val and (val, -1.0) for lr, val in tried.items()})

    assert rates({}) == [1e-3, 3e-3]
    assert rates({1e-3: None, 3e-3: 0.5}) == []  # waits
    assert rates({1e-3: 0.4, 3e-3: 0.5}) == [1e-2]
    assert rates({1e-3: 0.4, 3e-3: 0.5, 1e-2: 0.3}) == []
    assert rates({1e-3: 0.6, 3e-3: 0.5}) == [3e-4]
    assert rates({1e-3: 0.5, 3e-3: 0.5}) == [3e-4]  # of equal rates the smaller
    assert rates({1e-4: 0.9, 3e-4: 0.6, 1e-3: 0.5, 3e-3: 0.4}) == []  # the end of the grid


def test_the_best_rate_has_the_lowest_loss_then_the_highest_accuracy(table, rows):
    figures = {1e-3: (0.9, 0.5), 3e-3: (0.7, 0.4), 1e-2: (0.8, 0.4)}  # accuracy, loss
    cells = {lr: rows.Cell("motion", "ssp", lr, 0) for lr in figures}
    runs = [finished(cells[lr], val) | {"val_loss": loss} for lr, (val, loss) in figures.items()]
    tried = rows.tried_of("motion", "ssp", runs, [rows.Cell("motion", "ssp", 3e-2, 0)])
    assert list(tried) == [*figures, 3e-2] and rows.best_rate(tried) == 1e-2


def test_starting_rates_run_first_and_further_seeds_last(table):
    done, started = {"tabletop": []}, []
    accuracy = {1e-3: 0.5, 3e-3: 0.6, 1e-2: 0.4}
    while ready := table.cells(done, []):
        started.append(ready[0])
        done["tabletop"].append(finished(ready[0], accuracy[ready[0].lr]))
    assert [(x.row, x.lr, x.seed) for x in started] == [
        *[("ssp", 1e-3, 0), ("full", 1e-3, 0)],
        *[("ssp", 3e-3, 0), ("full", 3e-3, 0)],
        *[("ssp", 1e-2, 0), ("full", 1e-2, 0)],
        *[("ssp", 3e-3, 1), ("ssp", 3e-3, 2), ("full", 3e-3, 1), ("full", 3e-3, 2)],
        ("longer", 3e-3, 0),
    ]


def test_a_running_cell_is_not_started_again(table):
    first = table.cells({"sprites": []}, [])[0]
    assert first not in table.cells({"sprites": []}, [first])
    assert not [x for x in table.cells({"sprites": [finished(first, 0.5)]}, []) if x == first]


def test_a_run_with_other_options_or_epochs_is_not_the_cell(table):
    cell = table.cells({"sprites": []}, [])[0]
    run = finished(cell, 0.5)
    assert cell.of(run)
    assert not cell.of(run | {"options": run["options"] | {"gather_kernel": [1, 1, 1]}})
    for other in ({"epochs": 1}, {"drop_path": 0.4}, {"batch_size": 1}, {"frames": 16}):
        assert not cell.of(run | other)


def test_a_failed_rate_is_the_worst_and_not_tried_again(table, rows):
    def failed(cell):
        return cell.asked | {"error": "DivergedError: no"}

    low, high = (rows.Cell("sprites", "full", lr, 0) for lr in rows.START[rows.FIRST])
    done = {"sprites": [finished(low, 0.1), failed(high)]}
    assert [x for x in table.cells(done, []) if x.row == "full"] == [rows.Cell("sprites", "full", 3e-4, 0)]
    done["sprites"].append(failed(rows.Cell("sprites", "full", 3e-4, 0)))
    assert not [x for x in table.cells(done, []) if x.row == "full"]


def test_finished_runs_are_stored_and_those_of_other_weights_replaced(
    table, rows, set_constants, monkeypatch, capsys
):
    monkeypatch.setattr(table, "stamp_of", lambda folder, weights: STAMP)
    set_constants(ABLATED={})
    started = []

    def run(cell, stamp, folder, work, backbones):
        started.append(cell)
        return finished(cell, 0.5) | stamp | ({"error": "no"} if cell.lr == 3e-3 else {})

    monkeypatch.setattr(table, "run", run)
    first = rows.Cell("sprites", "ssp", 1e-3, 0)
    table.store("sprites", [finished(first, 0.9) | {"annotation": "a", "backbone_sha256": "old"}])
    args = arguments(rows=None)
    assert table.run_all(args, ["sprites"]) == 2  # one of each row
    assert {(x.row, x.lr) for x in started} == {
        (x, lr) for x in ("ssp", "full") for lr in (1e-4, 3e-4, 1e-3, 3e-3)
    }
    assert {x["backbone_sha256"] for x in table.load("sprites")} == {"new"} and len(
        table.load("sprites")
    ) == 8
    assert capsys.readouterr().out.count(": no\n") == 2
    started.clear()
    assert table.run_all(args, ["sprites"]) == 0 and not started


def test_ablations_run_on_their_sets_at_the_rate_of_their_base_row(table, rows):
    accuracy, runs = {1e-3: 0.5, 3e-3: 0.6, 1e-2: 0.4}, {}
    for name in ("tabletop", "motion", "sprites"):
        done = {name: []}
        while ready := table.cells(done, []):
            done[name].append(finished(ready[0], accuracy[ready[0].lr]))
        runs[name] = [(x["lr"], x["seed"], x["epochs"]) for x in done[name] if x["row"] == "longer"]
    longer = {name: [(3e-3, 0, 9 * rows.EPOCHS[name])] for name in ("tabletop", "sprites")}
    assert runs == longer | {"motion": []}
    assert {x.row for x in table.cells({"tabletop": []}, [], ["full"])} == {"full"}


def test_an_ablation_waits_for_the_rate_of_its_base_row(table, rows):
    runs = [finished(rows.Cell("tabletop", "ssp", lr, 0), lr) for lr in rows.GRID[1:5]]
    last = rows.Cell("tabletop", "ssp", rows.GRID[5], 0)
    assert not [x for x in table.cells({"tabletop": runs}, [last]) if x.row == "longer"]
    after = table.cells({"tabletop": [*runs, finished(last, 0.001)]}, [])
    assert [x.lr for x in after if x.row == "longer"] == [1e-2]


def test_rows_without_their_weights_are_named_and_skipped(
    table, rows, set_constants, monkeypatch, capsys, tmp_path
):
    set_constants(ABLATIONS={"shorter": rows.Row("ssp", backbone="short")})
    monkeypatch.setattr(table, "stamp_of", lambda folder, weights: STAMP)
    monkeypatch.setattr(table, "run", lambda cell, stamp, *rest: finished(cell, 0.5) | stamp)
    args = arguments(rows=None)
    assert table.run_all(args, ["tabletop"]) == 0
    assert "not in --backbones: shorter" in capsys.readouterr().out
    assert {x["row"] for x in table.load("tabletop")} == {"ssp", "full"}
    args.backbones = tmp_path
    (tmp_path / "short.safetensors").touch()
    assert table.run_all(args, ["tabletop"]) == 0
    assert {x["backbone"] for x in table.load("tabletop") if x["row"] == "shorter"} == {"short"}
    assert "tabletop, shorter, rate" in capsys.readouterr().out


def test_runs_of_unavailable_weights_are_kept_and_those_on_other_clips_dropped(
    table, rows, set_constants, monkeypatch
):
    set_constants(ABLATIONS={"shorter": rows.Row("ssp", backbone="short")})
    monkeypatch.setattr(table, "stamp_of", lambda folder, weights: STAMP)
    monkeypatch.setattr(table, "run", lambda cell, stamp, *rest: finished(cell, 0.5) | stamp)
    cell = rows.Cell("tabletop", "shorter", 1e-3, 0)
    kept = finished(cell, 0.7) | STAMP | {"backbone_sha256": "short"}
    others = [kept | x for x in ({"annotation": "b"}, {"epochs": 1}, {"row": "longer"})]
    table.store("tabletop", [kept, *others])
    table.run_all(arguments(rows="full"), ["tabletop"])
    left = table.load("tabletop")
    assert [x for x in left if x["row"] != "full"] == [kept] and len(left) > 1


def test_results_have_one_line_per_run_in_the_order_of_the_table(table, rows):
    cells = [rows.Cell("tabletop", row, lr, 0) for row in ("full", "ssp") for lr in (3e-3, 1e-3)]
    runs = [finished(x, 0.5) for x in cells]
    table.store("tabletop", runs)
    text = (table.RESULTS / "tabletop.json").read_text()
    assert len(text.splitlines()) == 4 + 2
    assert [(x["row"], x["lr"]) for x in table.load("tabletop")] == [
        *[("ssp", 1e-3), ("ssp", 3e-3), ("full", 1e-3), ("full", 3e-3)]
    ]
    assert table.load("sprites") == []


def test_pairs_and_middles_of_orders_are_counted(table):
    classes = ["a-b-c-d", "a-c-b-d", "d-b-c-a", "d-c-b-a"]
    found = table.orders(classes, [0, 0, 1, 2, 3, 3], [0, 1, 1, 3, 0, 3])
    assert found == {"pair_top1": 5 / 6, "middle_top1": 3 / 5}


def test_rates_of_both_earlier_rounds_choose_that_of_a_fresh_set(table, rows, benchmarks, monkeypatch):
    records = benchmarks("records")
    tried = {"motion": (1e-3, 3e-3), "design/motion": (1e-2,)}
    monkeypatch.setattr(rows, "FINALISTS", ())
    runs = {
        name: [finished(rows.Cell(name, "full", lr, 0), 0.5) | {"val_loss": 1 - lr} for lr in rates]
        for name, rates in tried.items()
    }
    monkeypatch.setattr(records, "load", lambda name: runs.get(name, []))
    assert table.cells({"fresh/motion": []}, [], ["full"]) == []  # waits: the best is at an end
    (last,) = table.cells({"design/motion": []}, [], ["full"])
    assert last.lr == 3e-2
    runs["design/motion"].append(finished(last, 0.5))
    assert table.cells({"fresh/motion": []}, [], ["full"]) == [rows.Cell("fresh/motion", "full", 1e-2, 0)]
    done = finished(rows.Cell("fresh/motion", "full", 1e-2, 0), 0.5)
    assert table.cells({"fresh/motion": [done]}, [], ["full"]) == []


def test_new_rows_have_two_rates_wherever_the_best_is(rows):
    for name in ("design/motion", "real/lips_words_0"):
        assert rows.rates(name, {}) == [3e-3, 1e-2]
        assert rows.rates(name, {3e-3: None}) == [1e-2]
        assert rows.rates(name, {3e-3: (0.4, -1.0), 1e-2: (0.5, -1.0)}) == []
    assert rows.rates("design/motion", {1e-2: (0.4, -1.0), 3e-2: (0.5, -1.0)}) == [1e-1]  # of the first round


def test_finalists_have_five_seeds_on_fresh_sets_and_other_rows_one(rows):
    assert rows.seeds_of("fresh/motion", rows.FINALISTS[0]) == (0, 1, 2, 3, 4)
    assert rows.seeds_of("fresh/motion", "ssp") == (0,)
    assert rows.seeds_of("motion", "ssp") == (0, 1, 2)


def test_folds_of_real_footage_take_the_rate_of_the_first(table, rows, benchmarks, monkeypatch):
    monkeypatch.setattr(rows, "REAL_ROWS", ("full",))
    first, second = "real/lips_words_0", "real/lips_words_1"
    runs = []
    monkeypatch.setattr(benchmarks("records"), "load", lambda name: runs if name == first else [])
    assert table.cells({second: []}, []) == []
    losses = {3e-3: 0.5, 1e-2: 0.4}
    while ready := [x for x in table.cells({first: runs}, []) if x.lr not in {run["lr"] for run in runs}]:
        runs.append(finished(ready[0], 0.5) | {"val_loss": losses[ready[0].lr]})
    assert sorted(x["lr"] for x in runs) == sorted(losses)
    assert table.cells({second: []}, []) == [rows.Cell(second, "full", 1e-2, 0)]
