"""Unpacked models in the cache: made once, whole, read once a change, made again when damaged."""

import os
import time

import pytest

from bench.disk import digests
from bench.disk.made_folders import made_once
from bench.disk.manifest import MANIFEST
from bench.errors import StorageError
from speed.harms import HARMS


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def made():
    """How often a model was unpacked."""
    return []


@pytest.fixture
def model(cache, made):
    """Ask for a model of two files, one of which counts as large."""

    def unpack(scratch):
        made.append(scratch)
        folder = scratch / "model"
        folder.mkdir()
        (folder / "config.json").write_text('{"layers": 2}')
        (folder / "weights.bin").write_bytes(b"w" * 2000)
        return folder

    return lambda: made_once("tiny-1", unpack)


@pytest.fixture
def reads(monkeypatch):
    """Large files that were read whole."""
    found, read = [], digests._read
    monkeypatch.setattr(digests, "LARGE", 1000)
    monkeypatch.setattr(digests, "_read", lambda path: found.append(path.name) or read(path))
    return found


def _settle(folder):
    """Let the files of a folder be a minute old."""
    for path in folder.iterdir():
        os.utime(path, (time.time() - 60, time.time() - 60))


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", ["config.json", "weights.bin", MANIFEST])
def test_a_damaged_model_is_set_aside_and_unpacked_again(
    model, made, cache, caplog, tell, name, harm
):
    folder = model()
    HARMS[harm](folder / name)
    assert model() == folder and len(made) == 2
    assert (folder / "weights.bin").read_bytes() == b"w" * 2000
    assert (cache / "tiny-1.damaged-1").is_dir()
    assert len(caplog.messages) == 1 and "made again" in caplog.messages[0]
    tell(f"unpacked model, {name}: {harm}", True, 0, 0, caplog.messages[0], True)


def test_a_large_file_is_hashed_once_a_change(model, made, reads):
    folder = model()
    _settle(folder)
    reads.clear()
    model()
    assert reads == ["weights.bin"], "its time of change is another one now"
    for _ in range(3):
        model()
    assert (reads, len(made)) == (["weights.bin"], 1)
    HARMS["flip"](folder / "weights.bin")
    model()
    assert (len(made), (folder / "weights.bin").read_bytes()) == (2, b"w" * 2000), "noticed"


def test_a_model_of_an_earlier_version_gets_a_manifest(cache, model, made):
    folder = cache / "tiny-1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert model() == folder and made == []
    HARMS["flip"](folder / "config.json")
    model()
    assert len(made) == 1


def test_a_cut_off_unpacking_leaves_nothing_that_passes_for_a_model(cache, model):
    def killed(scratch):
        (scratch / "model").mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_once("tiny-1", killed)
    assert not (cache / "tiny-1").exists()
    assert (model() / "weights.bin").exists()


def test_a_full_disk_is_told_in_one_line(cache):
    def full(scratch):
        raise OSError(28, "No space left on device")

    with pytest.raises(
        StorageError, match=r"tiny-1 cannot be written: the disk is full; make room"
    ):
        made_once("tiny-1", full)
