"""benchmarks/page_fresh.py: the tables of the fresh round follow from its runs."""

from importlib import import_module

import pytest

RIVAL = "lora+moments"


@pytest.fixture
def fresh(benchmarks):
    yield benchmarks("page_fresh")
    benchmarks("findings").over_seeds.cache_clear()


@pytest.fixture
def put(fresh, benchmarks, monkeypatch):
    """put(runs): the runs of all sets, and a search that chose the rate 0.01 for every row of them."""

    def put(runs):
        def searches(name):
            where = benchmarks("rows").search_of(name)
            rows = dict.fromkeys(x["row"] for x in runs if x["set"] == name)
            return [run(x, where, "") for x in rows]

        findings = benchmarks("findings")
        findings.over_seeds.cache_clear()
        for module in (benchmarks("page_methods"), findings):
            monkeypatch.setattr(module, "load", lambda name: [x for x in runs if x["set"] == name])
        monkeypatch.setattr(findings, "load_search", searches)

    return put


def run(row, name, hits, seed=0, lr=1e-2, **more):
    figures = {"error": None, "hits": hits, "top1": hits.count("1") / max(1, len(hits)), "set": name}
    figures |= {"videos": len(hits), "val_top1": 0.5, "val_loss": 1.0, "loss": 1.0, "parameters": 10}
    figures |= {"all_parameters": 100, "method_parameters": 4, "adapter_mb": 1.0, "memory_gb": 1.0}
    figures |= {"seconds_per_clip": 0.1, "minutes": 2.0}
    return import_module("rows").Cell(name, row, lr, seed).asked | figures | more


def cells(text):
    return {x.split(" | ")[0][2:]: x.split(" | ")[1:] for x in text.splitlines()[2:]}


def test_rows_of_the_fresh_table_are_in_the_order_of_their_means(fresh, put):
    first = fresh.FINALISTS[0]
    hits = {first: "1100", RIVAL: "1110", "ssp": "1000"}
    runs = [run(x, f"fresh/{name}", own) for name in fresh.FRAMES for x, own in hits.items()]
    runs += [run(first, "fresh/motion", "1111", seed=4), run("svp", "fresh/motion", "1111")]
    runs.append(run(first, "fresh/motion", "1111", lr=3e-3))  # not the rate that validation chose
    put(runs)
    rows = cells(fresh.table())
    assert list(rows) == [RIVAL, first, "ssp", "svp"]  # the last is not complete
    assert rows[first][1].startswith("75.0 (") and "2 seeds" in rows[first][1]
    assert rows[first][4].startswith("56.2 (")  # of 50, 75, 50 and 50
    assert rows["svp"][0] == "" and rows["svp"][4].strip(" |") == ""
    put([x for x in runs if x["seed"] == 0])
    labels = [x.get_text() for x in fresh.draw().axes[0].get_yticklabels()]
    assert labels == [RIVAL, first, "ssp"]


def test_differences_of_the_claim_are_in_points_and_bold_where_significant(fresh, monkeypatch):
    shared = {"first": fresh.FINALISTS[0], "low": 0.01, "high": 0.03, "p": 0.01}
    rows = [
        shared | {"set": x, "rival": "ssp", "difference": 0.02, "significant": True} for x in fresh.FRAMES
    ]
    rows.append(shared | {"set": "all", "rival": "ssp", "difference": 0.02, "significant": True})
    rows.append(
        shared | {"set": "all", "rival": RIVAL, "difference": -0.012, "low": -0.04, "significant": False}
    )
    rows.append(shared | {"set": "motion", "rival": "svp", "difference": 0.5, "significant": True})
    monkeypatch.setattr(fresh, "read", lambda file: rows if file.name == "claim.json" else [])
    found = cells(fresh.claim())
    assert list(found) == [RIVAL, "ssp", "svp"]  # the closest rival first, incomplete rows last
    assert found["ssp"] == 4 * ["**+2.0 (+1.0 to +3.0)**"] + ["**+2.0 (+1.0 to +3.0)** |"]
    assert found[RIVAL][-1] == "-1.2 (-4.0 to +3.0) |"


def test_orders_are_means_over_the_seeds(fresh, put):
    more = [{"pair_top1": 1.0, "middle_top1": 0.5}, {"pair_top1": 0.5, "middle_top1": 1.0}]
    put([run(RIVAL, "fresh/recipes", "10", seed=i, **x) for i, x in enumerate(more)])
    assert cells(fresh.orders()) == {RIVAL: ["50.0", "75.0", "75.0 |"]}


def test_folds_of_footage_are_summed_up(fresh, put):
    tops = {0: "1100", 1: "1000", 3: "1110"}
    put([run("ssp", f"real/lips_words_{fold}", hits) for fold, hits in tops.items()])
    assert cells(fresh.footage()) == {"ssp": ["50.0 (25 to 75; 3 folds)", " |"]}


def test_costs_are_those_of_the_fastest_run(benchmarks, fresh, put):
    slow, fast = {"seconds_per_clip": 0.2, "minutes": 9.0}, {"seconds_per_clip": 0.05, "minutes": 3.0}
    put([run("ssp", "fresh/tabletop", "1", seed=i, **x) for i, x in enumerate((slow, fast))])
    found = benchmarks("page").BLOCKS["fresh costs"]()
    assert cells(found) == {"ssp": ["4", "10", "10.0", "50", "3.0", "1.00", "1.00 |"]}
