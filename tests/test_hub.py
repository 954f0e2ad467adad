"""Models by their names on the hub: what is downloaded, and what is said where nothing can be."""

import os
import sys
import types

import pytest
from models import random_values, small_config

import rtfast
from rtfast import hub


@pytest.fixture
def folder(tmp_path):
    config = small_config()
    rtfast.Transformer(config, random_values(config)).save(tmp_path / "model")
    return tmp_path / "model"


class Names:
    """The errors of huggingface_hub, by name."""

    class GatedRepoError(OSError):
        pass

    class RepositoryNotFoundError(OSError):
        pass

    class RevisionNotFoundError(OSError):
        pass

    class LocalEntryNotFoundError(FileNotFoundError):
        pass

    class OfflineModeIsEnabled(ConnectionError):
        pass


@pytest.fixture
def downloads(monkeypatch, folder):
    """Every download gives `folder`, or raises what is put under "error"; the calls."""
    calls = {"seen": [], "error": None}

    def snapshot_download(name, **options):
        calls["seen"].append((name, options))
        if calls["error"]:
            raise calls["error"]
        return str(folder)

    package = types.ModuleType("huggingface_hub")
    package.snapshot_download, package.errors = snapshot_download, Names
    monkeypatch.setitem(sys.modules, "huggingface_hub", package)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", Names)
    return calls


def test_a_name_is_downloaded(downloads, folder):
    model = rtfast.load("Helsinki-NLP/opus-mt-en-es", revision="main", cache_dir="there")
    assert model.generate([3, 4], 3) == rtfast.load(folder).generate([3, 4], 3)
    ((name, options),) = downloads["seen"]
    assert name == "Helsinki-NLP/opus-mt-en-es"
    assert (options["revision"], options["cache_dir"], options["local_files_only"]) == ("main", "there", False)
    assert not any(pattern.endswith((".bin", ".pt", ".py", "*")) for pattern in options["allow_patterns"])


@pytest.mark.parametrize("name", ["../a", "a/../b", "./model", "/model", "a/b/c", "a b/c", "", "model", "-a/b"])
def test_what_is_no_name(downloads, name):
    with pytest.raises((FileNotFoundError, rtfast.CheckpointError)):
        rtfast.load(name)
    assert not downloads["seen"]


def test_a_folder_that_looks_like_a_name(downloads, folder, monkeypatch):
    monkeypatch.chdir(folder.parent.parent)
    rtfast.load(os.path.join(folder.parent.name, folder.name))
    assert not downloads["seen"]


@pytest.mark.parametrize("error, kind, match", [
    (Names.GatedRepoError("no"), PermissionError, "'a/b': its owner wants to be asked first"),
    (Names.RepositoryNotFoundError("no"), FileNotFoundError, "neither a folder here nor a model"),
    (Names.RevisionNotFoundError("no"), FileNotFoundError, "'a/b' has no revision 'r'"),
    (Names.LocalEntryNotFoundError("no"), ConnectionError, "not in the cache, and the hub is not reached"),
    (Names.OfflineModeIsEnabled("no"), ConnectionError, "not in the cache, and the hub is not reached"),
    (OSError("the disk is full"), ConnectionError, "could not be downloaded: the disk is full")])
def test_errors(downloads, error, kind, match):
    downloads["error"] = error
    with pytest.raises(kind, match=match):
        rtfast.load("a/b", revision="r")


def test_without_safetensors(downloads, folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(rtfast.CheckpointError, match="a/b: has no .safetensors file.*convert it once"):
        rtfast.load("a/b")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"'a/b' is no folder here.*pip install 'rtfast\[hub\]'"):
        rtfast.load("a/b")


def test_options_of_the_hub_with_a_folder(folder):
    with pytest.raises(ValueError, match="are for names on the hub"):
        rtfast.load(str(folder), revision="main")
    with pytest.raises(ValueError, match="are for names on the hub"):
        rtfast.load(local_files_only=True)


def test_the_real_package_offline(tmp_path):
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    with pytest.raises(ConnectionError, match="not in the cache"):
        hub.folder_of("nobody/nothing", cache_dir=str(tmp_path), local_files_only=True)


def test_the_real_cache(tmp_path, folder):
    """A snapshot's files are links into the cache's blobs."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    cache = tmp_path / "cache" / "models--a--b"
    snapshot = cache / "snapshots" / ("0" * 40)
    for part in (snapshot, cache / "blobs", cache / "refs"):
        part.mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40)
    for i, name in enumerate(("config.json", "model.safetensors")):
        (cache / "blobs" / str(i)).write_bytes((folder / name).read_bytes())
        (snapshot / name).symlink_to(f"../../blobs/{i}")
    model = rtfast.load("a/b", cache_dir=str(tmp_path / "cache"), local_files_only=True)
    assert model.generate([3, 4], 3) == rtfast.load(folder).generate([3, 4], 3)
