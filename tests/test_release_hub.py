"""Releases to and from a dataset repository of the Hub: huggingface_hub's own client against a server on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyconv.release.check import check_release
from dyconv.shards import open_shards
from dyconv.store import Store
from tests.hubserver import TOKEN, Hub, hub_server
from tests.release_build import make_build, several

REPO = "lab/talks"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server() as running:
        yield running


def dyconv(hub: Hub, home: Path, *words: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: the Hub's client reads its environment once."""
    settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    settings |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-m", "dyconv.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings}, timeout=120)


def test_a_release_goes_to_the_hub_and_comes_back(hub: Hub, tmp_path: Path) -> None:
    build = make_build(tmp_path / "build", tmp_path / "scratch", several(4, frames=30))
    words = ["release", str(build), "--to", f"hf://datasets/{REPO}", "--no-voices", "--ratios", "train=0.5,test=0.5"]
    hub.refuse_uploads = True
    done = dyconv(hub, tmp_path, *words, "--version", "1.0.0")
    assert done.returncode == 1 and "goes on from there" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not hub.tags[REPO] and hub.repos[REPO] == [{}]
    hub.refuse_uploads = False
    done = dyconv(hub, tmp_path, *words, "--version", "1.0.0")
    assert done.returncode == 0, done.stderr
    assert f"hf://datasets/{REPO}@v1.0.0" in done.stdout and list(hub.tags[REPO]) == ["v1.0.0"]
    there = hub.repos[REPO][-1]
    assert {"README.md", "croissant.json", "release.json", "tables/clips.parquet", "shards/clips-000000.tar"} <= there.keys()
    again = dyconv(hub, tmp_path, *words, "--version", "1.0.0")
    assert again.returncode == 2 and "exists" in again.stderr
    hub.asked.clear()
    done = dyconv(hub, tmp_path, *words, "--version", "1.1.0")
    assert done.returncode == 0 and not any("shards" in line or "clips-" in line for line in hub.asked if "PUT" in line)
    sent = sum(line.startswith("PUT /lfs/") for line in hub.asked)
    assert sent <= 2, "tars that the Hub has were sent again"  # the clip table names its version

    done = dyconv(hub, tmp_path, "pull", f"hf://datasets/{REPO}@v1.0.0", str(tmp_path / "out"), "--only", "split:test")
    assert done.returncode == 0, done.stderr
    assert check_release(Store(tmp_path / "out")).ok and 0 < len(list(open_shards(tmp_path / "out"))) < 4
    done = dyconv(hub, tmp_path, "pull", f"hf://datasets/{REPO}", str(tmp_path / "latest"))
    assert done.returncode == 0 and '"version": "1.1.0"' in (tmp_path / "latest" / "release.json").read_text(), done.stderr
    assert check_release(Store(tmp_path / "latest")).ok


def test_a_refused_login_is_told(hub: Hub, tmp_path: Path) -> None:
    build = make_build(tmp_path / "build", tmp_path / "scratch", several(2, frames=30))
    words = ["release", str(build), "--to", f"hf://datasets/{REPO}", "--no-voices", "--ratios", "train=0.5,test=0.5"]
    done = dyconv(hub, tmp_path, *words, "--version", "1.0.0", token="hf_" + "y" * 34)
    assert done.returncode == 1 and "HF_TOKEN" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert "hf_yyy" not in done.stderr
