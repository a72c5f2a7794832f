"""Methods by name: registered ones, those of other distributions, default options and learning rates."""

import importlib
import inspect
import json
import os
import statistics
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
import torch
from safetensors.torch import load_file, save_file

import videossp
from conftest import SMALL, published
from videossp.methods import (
    METHODS,
    default_lr,
    find_method,
    lr_source,
    make_tuner,
    method_names,
    published_options,
    register_method,
    registry,
    resolve_options,
)
from videossp.methods.rates import NANO
from videossp.methods.ssp import SSP
from videossp.model.config import BACKBONES, VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner

MIDDLE, NANO_SIZE = BACKBONES["videomamba_middle"], BACKBONES["videomamba_nano"]


class Gain(Tuner):
    """A method that is not bundled."""

    scaled = {"width": Scaled(30, by="d_state")}

    def __init__(self, config, *, width: int | None = None, start: float = 1.0):
        super().__init__()
        self.width = self.scaled["width"].resolve(width, config)
        self.gain = torch.nn.Parameter(torch.full((config.d_model,), start))

    def edit_cls(self, tokens, y):
        return y * self.gain


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    """Registered methods and imported modules do not outlive a test."""
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_rates", {})
    yield
    registry._declared.cache_clear()
    for module in ("outside", "other", "mine"):
        sys.modules.pop(module, None)


# Registered in this process


def test_a_registered_method_is_used_by_name(small_backbone, tmp_path):
    register_method("gain", Gain)
    assert method_names()[-1] == "gain" and find_method("gain") is Gain
    classifier = videossp.Classifier.create(small_backbone, classes=["a", "b"], method="gain", start=2.0)
    classifier.save(tmp_path)
    loaded = videossp.load(tmp_path)
    assert isinstance(loaded.tuner, Gain) and torch.equal(loaded.tuner.gain, torch.full((32,), 2.0))
    chain = make_tuner("gain+lora", SMALL, {"gain": {"start": 3.0}, "lora": {"rank": 2}})
    assert chain.tuners[0].gain[0] == 3.0


@pytest.mark.parametrize("name", ["ssp", "linear", "gain"])
def test_a_name_that_is_taken_is_refused(name):
    register_method("gain", Gain)
    with pytest.raises(ValueError, match=f"there is a method '{name}' already; register Gain under another"):
        register_method(name, Gain)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "a.b", "2d", "class"])
def test_a_name_that_no_option_could_have_is_refused(name):
    with pytest.raises(ValueError, match="must be a Python identifier"):
        register_method(name, Gain)


@pytest.mark.parametrize("at_import", [False, True])
def test_another_process_registers_the_methods_of_this_one(tmp_path, monkeypatch, at_import):
    register = '\n\nimport videossp\n\nvideossp.register_method("mine", Outside)\n'
    (tmp_path / "mine.py").write_text(OUTSIDE + register * at_import)
    monkeypatch.syspath_prepend(str(tmp_path))
    for _ in range(2):
        registry.register_again([("mine", "mine:Outside", 0.5)])
        assert find_method("mine") is sys.modules["mine"].Outside
    with pytest.raises(ValueError, match="there is a method 'mine' already; register SSP under another name"):
        registry.register_again([("mine", "videossp.methods.ssp:SSP", None)])


def method_with_option(option):
    """A method that has one option, of this name."""
    scope = {"Tuner": Tuner, "__name__": __name__}
    exec(f"class Own(Tuner):\n    def __init__(self, config, *, {option}=3): super().__init__()", scope)
    return scope["Own"]


def test_reserved_names_are_the_arguments_of_create():
    arguments = inspect.signature(videossp.Classifier.create.__func__).parameters.values()
    assert set(registry.RESERVED) == {x.name for x in arguments if x.kind is not x.VAR_KEYWORD}


@pytest.mark.parametrize("option", registry.RESERVED)
def test_option_that_create_would_not_pass_on_is_refused(small_backbone, option):
    cls = method_with_option(option)
    message = f"'own': the option {option} of Own is an argument of Classifier.create; rename it"
    with pytest.raises(ValueError, match=message):
        register_method("own", cls)
    assert "own" not in method_names()
    with pytest.raises(ValueError, match=message.replace("own", "Own")):
        videossp.Classifier.create(small_backbone, num_classes=2, method=cls)


@pytest.mark.parametrize("option", ["options", "scale", "self_"])
def test_option_of_another_name_reaches_the_method(small_backbone, option):
    register_method("own", method_with_option(option))
    classifier = videossp.Classifier.create(small_backbone, num_classes=2, method="own", **{option: 7})
    assert classifier.options == {option: 7}


@pytest.mark.parametrize("name", ["size", "seed", "classes"])
def test_method_named_like_an_argument_of_create_is_refused(name):
    with pytest.raises(ValueError, match=f"must not be an argument of Classifier.create, got '{name}'"):
        register_method(name, Gain)


def test_a_class_without_readable_options_is_refused():
    class Plain:
        def __init__(self, config):
            pass

    class NoConstructor(Tuner):
        pass

    class NoConfig(Tuner):
        def __init__(self, *, width=1):
            super().__init__()

    class AnyOption(Tuner):
        def __init__(self, config, **options):
            super().__init__()

    class Required(Tuner):
        def __init__(self, config, *, width):
            super().__init__()

    class Misspelt(Gain):
        scaled = {"widht": Scaled(3)}

    for cls, message in [
        (Misspelt, "Misspelt.scaled names widht, which is no option"),
        (Plain, "must be a subclass of videossp.Tuner"),
        ("Plain", "must be a subclass of videossp.Tuner"),
        *((x, r"must be __init__\(self, config") for x in (NoConstructor, NoConfig, AnyOption, Required)),
    ]:
        with pytest.raises(ValueError, match=message):
            register_method("other", cls)
    assert "other" not in method_names()


@pytest.mark.parametrize("lr", [0.0, -1e-3, float("nan"), float("inf")])
def test_a_default_rate_that_cannot_train_is_refused(lr):
    class Rated(Gain):
        pass

    Rated.lr = lr
    for arguments in ((Gain, lr), (Rated, None)):
        with pytest.raises(ValueError, match="lr of gain must be positive"):
            register_method("gain", arguments[0], lr=arguments[1])
    assert "gain" not in method_names()


def test_a_class_is_as_good_as_its_name():
    assert resolve_options(SSP, NANO_SIZE, {}) == resolve_options("ssp", NANO_SIZE, {})
    assert default_lr(SSP, NANO_SIZE) == default_lr("ssp", NANO_SIZE)
    assert isinstance(make_tuner(Gain, SMALL, {"start": 1.0}), Gain)
    with pytest.raises(ValueError, match="Gain has no option stop; it has width, start"):
        make_tuner(Gain, SMALL, {"stop": 1.0})


@pytest.mark.parametrize("at_import", [False, True])
def test_compare_runs_registered_method_in_subprocess(class_folder, tmp_path, monkeypatch, at_import):
    register = '\n\nimport videossp\n\nvideossp.register_method("mine", Outside)\n'
    (tmp_path / "mine.py").write_text(OUTSIDE + register * at_import)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("mine")
    if not at_import:
        register_method("mine", module.Outside)
    weights = tmp_path / "small.safetensors"
    save_file(published(), weights)
    config = videossp.TrainConfig(epochs=1, batch_size=8, lr=1e-2)
    out = tmp_path / "out"
    result = videossp.compare(class_folder, ["mine+linear"], [0], config, out=out, backbone=str(weights))
    (row,) = result.rows
    assert (row["seeds"], row["failed"]) == (1, 0), result.runs
    assert row["method_parameters"] == 32


def test_a_registered_class_that_another_process_cannot_import_is_refused(class_folder, tmp_path):
    class Local(Gain):
        pass

    register_method("local", Local)
    with pytest.raises(ValueError, match="'local' must run in another process, which cannot import .*Local"):
        videossp.compare(
            class_folder, ["local"], [0], out=tmp_path / "out", backbone="videomamba_nano", size=32, frames=2
        )
    assert not (tmp_path / "out").exists()


# Of another distribution

OUTSIDE = '''
import torch
from videossp import Tuner


class Outside(Tuner):
    """Scales what the head reads."""

    lr = 0.02

    def __init__(self, config, *, start: float = 1.0):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.full((config.d_model,), start))

    def edit_cls(self, tokens, y):
        return y * self.gain
'''


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """install(ENTRY_POINTS): a distribution `outside 1.0`, for this process and those it starts."""

    def install(declared, source=OUTSIDE, name="outside", folder=tmp_path / "site"):
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{name}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[videossp.methods]\n{declared}\n")
        (info / "RECORD").write_text(f"{name}.py,,\n")
        monkeypatch.syspath_prepend(str(folder))
        path = os.pathsep.join([str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        monkeypatch.setenv("PYTHONPATH", path.strip(os.pathsep))
        registry._declared.cache_clear()

    return install


def videossp_process(*arguments):
    command = [sys.executable, "-m", "videossp", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_a_method_of_another_distribution_trains_saves_loads_and_compares(
    distribution, class_folder, tmp_path
):
    distribution("outside = outside:Outside")
    weights = tmp_path / "small.safetensors"
    save_file(published(), weights)
    flags = [class_folder, "--backbone", weights, "--epochs", 1, "--batch-size", 8]
    run = tmp_path / "run"
    trained = videossp_process("train", *flags, "--method", "outside", "--outside.start", 1.5, "--out", run)
    assert trained.returncode == 0, trained.stderr
    config = json.loads((run / "adapter" / "adapter_config.json").read_text())
    assert config["method"] == "outside" and config["options"]["start"] == 1.5
    tensors = load_file(run / "adapter" / "adapter_model.safetensors")
    assert tensors["tuner.gain"].shape == (32,) and (tensors["tuner.gain"] != 1.5).any()
    found = videossp_process("predict", run, class_folder / "test" / "dark" / "0.mp4")
    assert found.returncode == 0 and "dark" in found.stdout, found.stderr
    loaded = videossp.load(run)
    assert type(loaded.tuner).__module__ == "outside"

    out = tmp_path / "compared"
    compared = videossp_process("compare", *flags, "--methods", "linear,outside", "--seeds", 0, "--out", out)
    assert compared.returncode == 0, compared.stderr
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [(row["method"], row["seeds"], row["failed"]) for row in rows] == [
        ("linear", 1, 0),
        ("outside", 1, 0),
    ]
    head = 32 + 2 * 32 + 2  # norm, weight, bias
    assert [row["parameters"] for row in rows] == [head, head + 32]


def test_a_declared_method_is_not_imported_until_it_is_asked_for(distribution):
    distribution("outside = outside:Outside")
    assert method_names() == [*METHODS, "outside"] and "outside" not in sys.modules
    assert default_lr("outside", NANO_SIZE) == 0.02 and "outside" in sys.modules
    with pytest.raises(ValueError, match="there is a method 'outside' already"):
        register_method("outside", Gain)


BROKEN = {
    "no module": ("outside = nowhere:Outside", OUTSIDE, "ModuleNotFoundError: No module named 'nowhere'"),
    "no class": ("outside = outside:Inside", OUTSIDE, "AttributeError: module 'outside' has no attribute"),
    "a reserved option": (
        "outside = outside:Outside",
        OUTSIDE.replace("start", "dropout"),
        "the option dropout of Outside is an argument of Classifier.create; rename it",
    ),
    "no method": ("outside = outside:torch", OUTSIDE, "must be a subclass of videossp.Tuner"),
    "an error of two lines": (
        "outside = outside:Outside",
        "raise RuntimeError('first\\n  second')",
        "RuntimeError: first second",
    ),
    "an error on import": ("outside = outside:Outside", "1 / 0", "ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_declaration_is_one_line_and_only_for_those_who_ask_for_it(distribution, case):
    declared, source, reason = BROKEN[case]
    distribution(declared, source)
    assert isinstance(make_tuner("ssp+lora", SMALL, {"ssp": {"heads": 4}}), Tuner)
    for _ in range(2):  # the second time as the first
        with pytest.raises(ValueError, match="method 'outside' of outside 1.0 cannot be loaded: ") as error:
            make_tuner("outside", SMALL, {})
        assert reason in str(error.value) and "\n" not in str(error.value)


def test_a_broken_declaration_does_not_disturb_the_command_line(distribution, class_folder, tmp_path):
    distribution("outside = nowhere:Outside")
    flags = [class_folder, "--frames", 2, "--size", 32, "--dry-run"]
    good = videossp_process("train", *flags, "--method", "linear")
    assert good.returncode == 0 and "nowhere" not in good.stderr, good.stderr
    bad = videossp_process("train", *flags, "--method", "outside")
    assert bad.returncode == 2 and bad.stdout == ""
    (line,) = [x for x in bad.stderr.splitlines() if "outside" in x]
    assert "method 'outside' of outside 1.0 cannot be loaded: ModuleNotFoundError" in line


def test_a_name_that_two_declare_is_refused_when_it_is_asked_for(distribution, tmp_path):
    distribution("outside = outside:Outside\nssp = outside:Outside")
    distribution("outside = other:Outside", name="other", folder=tmp_path / "more")
    for name, owners in (("ssp", "videossp and by outside 1.0"), ("outside", r"(other|outside) 1.0 and by")):
        with pytest.raises(ValueError, match=f"method '{name}' is declared by {owners}"):
            find_method(name)
    assert find_method("lora") is METHODS["lora"]


def test_a_distribution_that_is_installed_meanwhile_is_found(distribution):
    assert "outside" not in method_names()
    distribution("outside = outside:Outside")
    assert find_method("outside").lr == 0.02
    assert [x.name for x in entry_points(group="videossp.methods")] == ["outside"]


# Default sizes

PUBLISHED = {
    "st_adapter": {"width": 384, "layers": 6},
    "adapter": {"width": 64},
    "lora": {"rank": 16},
    "vpt": {"length": 80},
    "vfpt": {"length": 80},
    "svp": {"width": 64},
    "additional_scan": {"states": 6},
    "ssp": {"gather_width": 384, "spread_width": 256},
    "moments": {"times": 4, "rank": 48},
    "gather_spread": {"rank": 144, "layers": 8, "times": 4, "moment_rank": 24},
}
# Those that the benchmark took before they were the defaults (benchmarks/rows.py).
AT_NANO = {
    "st_adapter": {"width": 128, "layers": 2},
    "adapter": {"width": 22},
    "lora": {"rank": 5},
    "vpt": {"length": 27},
    "vfpt": {"length": 27},
    "svp": {"width": 22},
    "additional_scan": {"states": 3},
    "ssp": {"gather_width": 128, "spread_width": 88},
    "moments": {"times": 4, "rank": 16},
    "gather_spread": {"rank": 48, "layers": 2, "times": 4, "moment_rank": 8},
}


@pytest.mark.parametrize("method", METHODS)
def test_default_sizes_are_the_published_ones_at_videomamba_m_and_grow_with_the_backbone(method):
    assert set(METHODS[method].scaled) == set(PUBLISHED.get(method, {}))
    for config, sizes in ((MIDDLE, PUBLISHED), (NANO_SIZE, AT_NANO)):
        options = resolve_options(method, config, {})
        assert {key: options[key] for key in sizes.get(method, {})} == sizes.get(method, {})
        with torch.device("meta"):
            direct, explicit = METHODS[method](config), make_tuner(method, config, options)
        shapes = [{name: x.shape for name, x in tuner.state_dict().items()} for tuner in (direct, explicit)]
        assert shapes[0] == shapes[1]


def test_ssp_at_videomamba_m_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert sum(x.numel() for x in SSP(MIDDLE).parameters()) == 2_418_274


def test_a_size_is_rounded_to_the_nearest_multiple_and_is_never_zero():
    def config(d_model):
        return VideoMambaConfig(depth=1, d_model=d_model)

    sizes = Scaled(64, multiple_of=2)
    found = [sizes.resolve(None, config(d)) for d in (576, 1152, 288, 192, 27, 9, 1)]
    assert found == [64, 128, 32, 22, 4, 2, 2]  # 3 and 1 are halfway between two multiples
    assert sizes.resolve(7, config(576)) == 7  # a given size is taken as it is
    assert Scaled(6, by="depth").resolve(None, config(576)) == 1
    assert Scaled(64, most=40).resolve(None, config(576)) == 40
    assert Scaled(64, most=40).resolve(50, config(576)) == 50
    assert all(Scaled(256, multiple_of=8).resolve(None, config(d)) % 8 == 0 for d in range(1, 800, 7))


def test_given_options_win_and_the_rest_is_resolved():
    assert resolve_options("vpt", NANO_SIZE, {"deep": False, "length": None}) == {
        "length": 27,
        "deep": False,
        "position": "after_cls",
        "accumulate": False,
    }
    chain = resolve_options("ssp+lora", NANO_SIZE, {"lora": {"scale": 1.0}})
    assert (
        chain["ssp"]["gather_width"] == 128 and chain["lora"]["rank"] == 5 and chain["lora"]["scale"] == 1.0
    )
    assert resolve_options("linear", NANO_SIZE, {}) == {}
    assert resolve_options(Gain, NANO_SIZE, {}) == {"width": 15, "start": 1.0}
    with pytest.raises(ValueError, match="lora has no option ranks; it has targets, rank"):
        resolve_options("ssp+lora", NANO_SIZE, {"lora": {"ranks": 4}})


def test_published_options_are_those_of_videomamba_m_on_every_backbone():
    assert published_options("lora", {"scale": 1.0}) == {
        "targets": ("in_proj", "out_proj"),
        "rank": 16,
        "scale": 1.0,
        "drop": 0.0,
    }
    assert published_options("ssp+vpt", {"vpt": {"length": 3}})["ssp"]["spread_width"] == 256
    assert published_options("ssp+vpt", {"vpt": {"length": 3}})["vpt"]["length"] == 3


# Default learning rates


def test_measured_rates_are_the_medians_of_those_that_validation_chose(benchmarks):
    rows, records = benchmarks("rows"), benchmarks("records")
    assert list(NANO) == list(METHODS)
    for method, rate in NANO.items():
        chosen = []
        for kind in rows.FRAMES:
            name = f"{rows.DESIGN}{kind}" if method in rows.NEW else kind
            tried = rows.tried_of(name, method, records.load_search(name))
            if tried and not rows.rates(name, tried):
                chosen.append(rows.GRID.index(rows.best_rate(tried)))
        if method in rows.NEW and len(chosen) < len(rows.FRAMES):
            continue  # its search is not complete
        assert len(chosen) == len(rows.FRAMES), "rates are still to be tried"
        assert rate == rows.GRID[int(statistics.median(chosen))], method  # int() takes the smaller of two


def test_a_measured_rate_holds_for_backbones_of_its_size_only():
    assert (
        default_lr("ssp", NANO_SIZE) == 3e-3 and lr_source("ssp", NANO_SIZE) == "measured on videomamba_nano"
    )
    longer = VideoMambaConfig(depth=8, d_model=192, size=(96, 96), d_state=8, frames=32)
    assert default_lr("ssp", longer) == 3e-3
    for name in ("videomamba_tiny", "videomamba_middle"):
        assert default_lr("ssp", BACKBONES[name]) == 1e-3
        assert lr_source("ssp", BACKBONES[name]) == "not measured for ssp on this backbone"


def test_a_chain_trains_at_the_smallest_rate_of_its_members():
    assert default_lr("lora+full", NANO_SIZE) == NANO["full"] < NANO["lora"]
    assert lr_source("lora+full", NANO_SIZE) == "measured on videomamba_nano, the smallest of the chain"
    assert default_lr("lora+full", MIDDLE) == 1e-3


def test_a_method_from_elsewhere_brings_its_rate():
    class Quick(Gain):
        lr = 0.5

    register_method("gain", Gain)
    register_method("quick", Quick)
    register_method("slow", Quick, lr=1e-5)
    found = {
        name: default_lr(name, NANO_SIZE) for name in ("gain", "quick", "slow", "quick+slow", "quick+gain")
    }
    assert found == {"gain": 1e-3, "quick": 0.5, "slow": 1e-5, "quick+slow": 1e-5, "quick+gain": 1e-3}
    assert lr_source("slow", MIDDLE) == "the method's default"
    assert lr_source("quick+gain", MIDDLE) == "not measured for gain on this backbone"
