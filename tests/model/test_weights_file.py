"""Formats of files: the first bytes decide; what cannot be read is one sentence with a cure; no code runs."""

import builtins
import bz2
import gzip
import io
import lzma
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from conftest import published
from videossp.errors import WeightsError
from videossp.model.weights_file import read_weights_file


def saved(**options):
    file = io.BytesIO()
    torch.save(published(), file, **options)
    return file.getvalue()


WRITERS = {
    "safetensors": lambda: save(published()),
    "zip": saved,
    "legacy": lambda: saved(_use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("name", ["w.pth", "w.bin", "w.safetensors", "w.ckpt", "w.pth.tar", "w"])
@pytest.mark.parametrize("written", WRITERS)
def test_the_suffix_does_not_matter(tmp_path, written, name):
    (tmp_path / name).write_bytes(WRITERS[written]())
    state = read_weights_file(tmp_path / name)
    assert all(torch.equal(state[key], x) for key, x in published().items())


def archive(names):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return file.getvalue()


def zipped(names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name in names:
            made.writestr(name, b"x")
    return file.getvalue()


def npz():
    file = io.BytesIO()
    np.savez(file, weight=np.zeros(3))
    return file.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Google Drive - Virus scan warning</title>"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"not a checkpoint", "a text that begins with 'not a checkpoint'"),
        ("n\u00e3o \u00e9 um arquivo\n".encode() * 9, "a text that begins with 'n\u00e3o"),
        (b'{"error": "Repository not found"}', "a text that begins with"),
        (LFS, "a Git LFS pointer, not the weights: run 'git lfs pull'"),
        (b"/annex/objects/SHA256E-s1--0.pth\n", "git annex get"),
        (PAGE, "a web page"),
        (b"\xef\xbb\xbf<html lang=en>", "a web page"),
        (b"\r\n" * 90 + b"<html>\t<body>", "a web page"),
        (b"epoch\tloss\n1\t0.5\n", "a text that begins with 'epoch loss"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML page"),
        (gzip.compress(save({"a": torch.zeros(2)}), mtime=0), "compressed with gzip"),
        (bz2.compress(b"a"), "compressed with bzip2"),
        (lzma.compress(b"a"), "compressed with xz"),
        (archive(["weights.pth"]), "a TAR archive: unpack it"),
        (archive(["sys_info", "pickle", "storages", "tensors"]), "torch's TAR format"),
        (zipped(["weights.pth", "README"]), r"a ZIP archive \(weights.pth, README\): unpack it"),
        (npz(), r"a ZIP archive \(weight.npy\)"),
        (pickle.dumps({"a": 1}), "a Python pickle that torch.save did not write"),
        (b"\x80\x02cos\nsystem\n(S'true'\ntR.", "a Python pickle that torch.save did not write"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (bytes(4096), "only zeros"),
        (bytes(range(200, 255)), "neither safetensors nor written by torch.save"),
        (saved(pickle_protocol=4), "newer protocol"),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_other_files_are_one_line_that_says_what_they_are(tmp_path, content, words, suffix):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(
        WeightsError, match=f"weights.{suffix}: not a readable checkpoint: .*{words}"
    ) as error:
        read_weights_file(path)
    assert "\n" not in str(error.value) and "weights_only" not in str(error.value)


@pytest.mark.parametrize("written", WRITERS)
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_called_so(tmp_path, written, kept):
    content = WRITERS[written]()
    (tmp_path / "weights.pth").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(WeightsError, match="cut off or damaged") as error:
        read_weights_file(tmp_path / "weights.pth")
    assert "\n" not in str(error.value) and "weights_only" not in str(error.value)


def test_a_header_of_false_length_is_damage(tmp_path):
    (tmp_path / "weights.pth").write_bytes(struct.pack("<Q", 2**20) + b'{"a":{}}')
    with pytest.raises(WeightsError, match="a safetensors file, but cut off or damaged"):
        read_weights_file(tmp_path / "weights.pth")


def test_a_torchscript_program_is_called_so(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(zipped(["a/data.pkl", "a/constants.pkl", "a/code/b.py"]))
    with pytest.raises(WeightsError, match="a TorchScript program: save the state_dict"):
        read_weights_file(path)


def test_a_folder_and_a_missing_file_are_one_line(tmp_path):
    for path, words in ((tmp_path, "Is a directory"), (tmp_path / "no.pth", "No such file")):
        with pytest.raises(WeightsError, match=words):
            read_weights_file(path)


class Code:
    """A pickle that calls a function when it is read by Python's own pickle."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("function", "argument", "name"),
    [
        (os.system, "touch {}", r"posix\.system|nt\.system"),
        (builtins.eval, "open({!r}, 'w')", "eval"),
        (builtins.exec, "open({!r}, 'w')", "exec"),
        (os.mkdir, "{}", r"posix\.mkdir|nt\.mkdir"),
        (subprocess.getoutput, "touch {}", r"(subprocess|commands)\.getoutput"),
        (np.fromregex, "{}", r"numpy\S*\.fromregex"),
        (torch.hub.load, "{}", r"torch\.hub\.load"),
        (builtins.getattr, "{}", "getattr"),
    ],
)
def test_code_in_a_pickle_is_refused_by_name_and_never_runs(tmp_path, function, argument, name, legacy):
    victim = tmp_path / "victim"
    code = Code(function, argument.format(str(victim)))
    path = tmp_path / "weights.pth"
    torch.save({"model": published(), "args": code}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=f"it holds the object ({name}), which is not loaded") as error:
        read_weights_file(path)
    assert not victim.exists()
    assert "\n" not in str(error.value) and "weights_only" not in str(error.value)
    assert "save model.state_dict() alone" in str(error.value)


def test_a_whole_model_is_refused_by_the_name_of_its_class(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(WeightsError, match=r"the object torch\.nn\.modules\.linear\.Linear"):
        read_weights_file(tmp_path / "model.pth")


def test_reading_leaves_the_list_of_allowed_objects_as_it_was(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    save_file(published(), tmp_path / "a.pth")
    torch.save(published(), tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        read_weights_file(tmp_path / name)
    assert set(torch.serialization.get_safe_globals()) == before
