"""examples/serve: the commands of the container and of the systemd unit, and the app for a Space."""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import pytest

import videossp
from conftest import numbered_frames, write_video
from videossp.cli.main import main
from videossp.serving.settings import ServeSettings

EXAMPLES = Path(__file__).parents[2] / "examples" / "serve"
CONTAINERFILE = (EXAMPLES / "Containerfile").read_text(encoding="utf-8")
UNIT = (EXAMPLES / "videossp.service").read_text(encoding="utf-8")
APP = (EXAMPLES / "app.py").read_text(encoding="utf-8")


def instructions(name):
    """The arguments of the instructions of this name in the Containerfile, on one line each."""
    text = CONTAINERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} +(.*)", text, re.MULTILINE)


def setting(name):
    """The value of a setting of the unit."""
    (value,) = re.findall(rf"^{name}=(.*)", UNIT.replace("\\\n", " "), re.MULTILINE)
    return value


def unit_command():
    return shlex.split(setting("ExecStart"))


def container_command():
    return [word for name in ("ENTRYPOINT", "CMD") for word in json.loads(instructions(name)[-1])]


def named_command():
    """The command in the comment of the Containerfile that loads all adapters at the start."""
    (line,) = re.findall(r"^#  +(--adapters .*)", CONTAINERFILE, re.MULTILINE)
    return ["videossp", "serve", *shlex.split(line)]


COMMANDS = pytest.mark.parametrize("command", [container_command, named_command, unit_command])


@COMMANDS
def test_the_commands_have_flags_that_serve_has(command, capsys):
    program, verb, *words = command()
    assert Path(program).name == "videossp" and verb == "serve"
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    known = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE))
    flags = {word for word in words if word.startswith("--")}
    assert {"--adapters", "--host", "--token-file", "--grace"} <= flags <= known


@COMMANDS
def test_serve_takes_the_values_of_the_commands_and_then_looks_for_the_folder(command, call, tmp_path):
    _, verb, *words = command()
    folder = words[words.index("--adapters") + 1] = tmp_path / "none"
    code, _, error = call(verb, *words)
    assert (code, error) == (2, f"videossp: --adapters {folder}: no such folder\n")


@COMMANDS
def test_jobs_and_then_requests_can_finish_before_the_process_is_killed(command):
    words = command()
    grace = float(words[words.index("--grace") + 1])
    if command is unit_command:
        most = float(setting("TimeoutStopSec"))
    else:
        most = float(re.search(r"--stop-timeout (\d+)", CONTAINERFILE)[1])
    assert 0 < grace <= ServeSettings().grace and 2 * grace < most
    assert setting("KillSignal") == "SIGTERM" and instructions("STOPSIGNAL") == ["SIGTERM"]


def test_only_the_token_lets_other_machines_in():
    assert "--insecure" not in CONTAINERFILE + UNIT
    words = container_command()
    assert words[words.index("--host") + 1] == "0.0.0.0"
    assert words[words.index("--token-file") + 1] == "/run/secrets/videossp-token"
    words = unit_command()
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--token-file") + 1] == "%d/token"
    assert setting("LoadCredential").startswith("token:")


def test_the_health_check_asks_the_port_of_the_command():
    words = container_command()
    port = words[words.index("--port") + 1]
    assert instructions("EXPOSE") == [port]
    (check,) = instructions("HEALTHCHECK")
    program, flag, code = json.loads(check.partition(" CMD ")[2])
    assert (program, flag) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")
    assert f"'http://127.0.0.1:{port}/health/ready'" in code


def test_the_image_has_no_root_no_fixed_index_and_a_cache_that_can_be_written():
    assert instructions("USER")[-1].isdecimal() and int(instructions("USER")[-1]) > 0
    assert instructions("ARG") == ["TORCH_INDEX"]
    assert not re.search(r"(?:https?:)?//(?!127\.0\.0\.1)\w", CONTAINERFILE)
    assert all(":" in x.split()[0] for x in instructions("FROM"))
    assert "--read-only" in CONTAINERFILE and "--tmpfs /tmp" in CONTAINERFILE
    assert "NUMBA_CACHE_DIR=/tmp/" in instructions("ENV")[-1]


def test_files_that_the_image_copies_exist():
    copied = [x.split()[:-1] for x in instructions("COPY") if not x.startswith("--from")]
    for name in (name for names in copied for name in names):
        assert (EXAMPLES.parents[1] / name).exists(), name


def test_the_unit_lets_numba_compile_and_keep_its_kernels():
    assert not re.search("^MemoryDenyWriteExecute=", UNIT, re.MULTILINE)
    assert f"NUMBA_CACHE_DIR=%C/{setting('CacheDirectory')}/" in setting("Environment")


def test_systemd_accepts_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # It checks that the program exists.
    unit = tmp_path / "videossp.service"
    unit.write_text(UNIT.replace(unit_command()[0], sys.executable), encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", unit]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_app_has_at_most_40_lines():
    assert len(APP.splitlines()) <= 40


def test_the_app_uses_attributes_that_videossp_has():
    used = {
        node.attr
        for node in ast.walk(ast.parse(APP))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "videossp"
    }
    assert {"load", "DataError"} <= used <= {*videossp.__all__}


def test_the_requirements_are_the_imports_of_the_app_and_name_no_host():
    lines = (EXAMPLES / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = {re.match(r"[\w-]+", x)[0] for x in lines if not x.startswith("#")}
    imports = {
        x.name for node in ast.walk(ast.parse(APP)) if isinstance(node, ast.Import) for x in node.names
    }
    assert names == imports == {"gradio", "videossp"}
    assert not any("//" in x for x in lines)


class GradioError(Exception):
    """Stands for gr.Error."""

    def __init__(self, message, **settings):
        super().__init__(message)


@pytest.fixture
def page(monkeypatch, tmp_path, small_classifier):
    """The page of the app with two adapters, without Gradio: the arguments that its parts got."""

    def named(kind):
        return lambda *arguments, **settings: (kind, *arguments)

    def interface(function, inputs, outputs, **settings):
        return SimpleNamespace(predict=function, inputs=inputs)

    parts = {x: named(x) for x in ("Video", "Dropdown", "Label")}
    monkeypatch.setitem(
        sys.modules, "gradio", SimpleNamespace(Error=GradioError, Interface=interface, **parts)
    )
    spec = spec_from_file_location("app_of_a_space", EXAMPLES / "app.py")
    app = module_from_spec(spec)
    spec.loader.exec_module(app)
    for name in ("run_b/adapter", "run_a/adapter"):
        small_classifier.save(tmp_path / "adapters" / name)
    return app.make_page(tmp_path / "adapters")


def test_the_app_predicts_what_the_classifier_predicts(page, tmp_path, small_classifier):
    assert [x[0] for x in page.inputs] == ["Video", "Dropdown"]
    assert page.inputs[1][1] == ["run_a", "run_b"]
    write_video(tmp_path / "a.mp4", numbered_frames(12))
    (expected,) = small_classifier.predict(tmp_path / "a.mp4")
    assert page.predict(str(tmp_path / "a.mp4"), "run_b") == expected.probabilities
    assert page.predict(str(tmp_path / "a.mp4")) == expected.probabilities


def test_the_app_shows_why_a_video_cannot_be_read(page, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(GradioError, match=r"a\.mp4: not a readable video"):
        page.predict(str(tmp_path / "a.mp4"))
    with pytest.raises(GradioError, match="Choose a video"):
        page.predict(None)


def test_the_app_without_adapters_ends_in_one_line(page, tmp_path):
    make_page = page.predict.__globals__["make_page"]
    with pytest.raises(SystemExit, match=r"nothing: no adapter here"):
        make_page(tmp_path / "nothing")
