"""Where weights are found: paths, folders, the hub and its cache; a mistyped path is an error at once."""

import http.server
import json
import threading
import time

import pytest
import torch
from huggingface_hub.utils import _http
from safetensors.torch import save_file

import videossp
from conftest import SMALL, published
from videossp.classifier import Classifier
from videossp.errors import WeightsError
from videossp.model.checkpoint import read_checkpoint
from videossp.model.config import VideoMambaConfig
from videossp.model.published import config_of
from videossp.model.weights_path import find_weights


@pytest.fixture(autouse=True)
def _new_session():
    """The hub's client keeps its session, which knows whether it is offline, from one test to the next."""
    reset = getattr(_http, "reset_sessions", None) or _http.close_session  # of older and newer versions
    reset()
    yield
    reset()


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """The snapshot folder of owner/repo in an offline cache of the hub; it holds weights.pth."""
    import huggingface_hub.constants

    cache = tmp_path / "hub"
    snapshot = cache / "models--owner--repo" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    torch.save(published(), snapshot / "weights.pth")
    (cache / "models--owner--repo" / "refs").mkdir()
    (cache / "models--owner--repo" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_a_hub_id_is_found_in_the_local_cache_when_offline(hub_cache):
    snapshot = hub_cache
    assert find_weights("owner/repo/weights.pth") == snapshot / "weights.pth"
    assert config_of(read_checkpoint(find_weights("owner/repo/weights.pth"))[0]) == SMALL
    for missing in ("owner/repo/other.pth", "owner/repo"):
        with pytest.raises(WeightsError, match="not available from the hub") as error:
            find_weights(missing)
        assert "\n" not in str(error.value)


def test_a_folder_needs_one_weight_file(tmp_path):
    with pytest.raises(WeightsError, match="it has no weights"):
        find_weights(str(tmp_path))
    for name in ("a.pth", "b.pth"):
        torch.save(published(), tmp_path / name)
    with pytest.raises(WeightsError, match=r"a\.pth, b\.pth"):
        find_weights(str(tmp_path))


@pytest.mark.parametrize(
    "source", ["nothing.pth", "weights/none.pth", "./no/such/file.pth", "/no/such/file.pth"]
)
def test_a_missing_path_is_an_error(source):
    with pytest.raises(WeightsError, match="no such file|no backbone"):
        Classifier.create(source, num_classes=2)


def test_an_adapter_of_a_hub_id_is_not_confused_by_a_local_folder_of_that_name(
    hub_cache, tmp_path, monkeypatch
):
    Classifier.create("owner/repo/weights.pth", num_classes=3, method="linear").save(tmp_path / "adapter")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "repo").mkdir(parents=True)
    other = VideoMambaConfig(depth=1, d_model=16, frames=4, size=(32, 32), d_state=4)
    torch.save(published(other), tmp_path / "owner" / "repo" / "weights.pth")
    assert videossp.load(tmp_path / "adapter").backbone.config == SMALL
    # To a new classifier a path is a path; it is recorded as one.
    local = Classifier.create("owner/repo/weights.pth", num_classes=3, method="linear")
    assert local.backbone.config == other
    assert local.source.name == str(tmp_path / "owner" / "repo" / "weights.pth")


def test_a_linked_file_keeps_its_suffix(tmp_path):
    """The hub's cache links model.safetensors to a file that is named by its hash."""
    save_file(published(), tmp_path / "0123abcd")
    (tmp_path / "model.safetensors").symlink_to("0123abcd")
    classifier = Classifier.create(str(tmp_path / "model.safetensors"), num_classes=3, method="linear")
    assert classifier.backbone.config == SMALL


@pytest.fixture
def no_hub(monkeypatch):
    """The hub does not answer; returns the times for which the client slept between tries."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize("source", ["owner/repository/sub/weights.pth", "owner/repository"])
def test_a_hub_that_does_not_answer_is_one_line_without_another_try(no_hub, capfd, source):
    with pytest.raises(
        WeightsError, match=f"^{source}: no such file, and not available from the hub"
    ) as error:
        find_weights(source)
    assert "\n" not in str(error.value)
    assert not no_hub and capfd.readouterr() == ("", "")


def test_a_cached_file_is_found_where_the_hub_does_not_answer(hub_cache, no_hub, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    assert find_weights("owner/repo/weights.pth") == hub_cache / "weights.pth"
    assert not no_hub


@pytest.fixture
def asked(monkeypatch):
    """The paths that a hub on this machine is asked for. Its one repository, owner/repo, has two files."""
    import huggingface_hub.constants

    paths = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            if "/owner/repo" not in self.path:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                return self.end_headers()
            files = [{"rfilename": x} for x in ("videomamba_t16.pth", "videomamba_m16.pth")]
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"id": "owner/repo", "siblings": files}).encode())

        def log_message(self, *args):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(
            huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}"
        )
        yield paths
        server.shutdown()
        thread.join()


def test_a_file_that_a_repository_lacks_is_an_error_with_the_nearest_names(asked):
    with pytest.raises(WeightsError, match=r"owner/repo has videomamba_t16.pth, videomamba_m16.pth"):
        find_weights("owner/repo/videomamba_16.pth")
    with pytest.raises(WeightsError, match="name one file in it; it has videomamba_m16.pth, videomamba_t16"):
        find_weights("owner/repo")
    assert len(asked) == 2


def test_a_repository_that_the_hub_lacks_is_one_line(asked, capfd):
    with pytest.raises(WeightsError, match="the hub has no repository some/body, or it is private$") as error:
        find_weights("some/body/weights.pth")
    assert "\n" not in str(error.value) and capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "source",
    [
        "checkpoints/x/vm.pth",  # the folder checkpoints is here
        "checkpoints/vm",
        "other/vm.ckpt",  # owner/repository has no suffix
        "other/vm.PTH",
        "./a/b/c.pth",
        "../a/b/c.pth",
        "~/no/such/c.bin",
        "/no/such/c.pth",
        "C:/weights/vm/a.pth",
        "C:\\weights\\vm/a/b.pth",
        "my weights/vm/a.pth",
        "a//b.pth",
        "a/b/",
    ],
)
def test_a_mistyped_path_does_not_ask_the_hub(asked, tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(WeightsError, match="no such file") as error:
        Classifier.create(source, num_classes=2)
    with pytest.raises(WeightsError, match="no such file"):
        Classifier.create("videomamba_tiny", weights=source, num_classes=2)
    assert not asked and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("vm_m16.pth", "did you mean vm_m16_f8.pth"),
        ("./weigths/vm_t16_f8.pth", "did you mean weights[?]"),
        ("weights/vm_t16.pth", "did you mean weights/vm_t16_f8.pth or weights/vm_t16_f16.pth[?]"),
        ("weights/sub/x/vm_t16.pth", "weights has vm_t16_f16.pth, vm_t16_f8.pth$"),
        ("weights/quite-other", "weights has vm_t16_f16.pth, vm_t16_f8.pth$"),
        ("videomamba_midle", "videomamba_middle"),
    ],
)
def test_an_error_names_the_files_near_a_mistyped_path(tmp_path, monkeypatch, source, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    for name in ("vm_m16_f8.pth", "weights/vm_t16_f8.pth", "weights/vm_t16_f16.pth", "weights/notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(WeightsError, match=words):
        Classifier.create(source, num_classes=2)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "w").mkdir()
    save_file(published(), tmp_path / "w" / "vm.safetensors")
    assert find_weights("~/w/vm.safetensors") == find_weights("~/w") == tmp_path / "w" / "vm.safetensors"
    with pytest.raises(WeightsError, match=r"did you mean .*w/vm.safetensors"):
        find_weights("~/w/vn.safetensors")


@pytest.mark.parametrize("name", ["last.ckpt", "checkpoint_00010.pyth", "best.pth.tar"])
def test_other_suffixes_of_weights_are_found_in_a_folder_without_usual_ones(tmp_path, name):
    (tmp_path / name).touch()
    (tmp_path / "config.yaml").touch()
    assert find_weights(str(tmp_path)) == tmp_path / name
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "model.safetensors").touch()
    assert find_weights(str(tmp_path)) == tmp_path / "model.safetensors"


def test_a_folder_of_a_sharded_checkpoint_is_called_so(tmp_path):
    for name in (".metadata", "__0_0.distcp"):
        (tmp_path / name).touch()
    with pytest.raises(WeightsError, match="dcp_to_torch"):
        find_weights(str(tmp_path))
