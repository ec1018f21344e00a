"""One run over everything that goes wrong in the wild: each source ends in its own named state, the good ones are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from dyconv import recipes
from dyconv.ledger import read_ledger, source_standing
from dyconv.models import registry
from dyconv.runner import RunOptions, RunSummary, run
from dyconv.shards import check
from dyconv.store import Store
from tests.faultserver import Fault, FaultServer
from tests.mediagen import flip_bits, make_media, times_cfr, times_vfr, truncate

HERE = RunOptions(workers=0)
KEPT = ("kept", None, "clips")

WANTED = {
    "good": KEPT,
    "rotated": KEPT,
    "wide-pixels": KEPT,
    "varying-rate": KEPT,
    "late-start": KEPT,
    "odd-size": KEPT,
    "ntsc-44100": KEPT,
    "truncated-10": ("dropped", "UNREADABLE", "download"),
    "truncated-50": ("dropped", "TRUNCATED", "scenes"),
    "truncated-99": ("dropped", "TRUNCATED", "scenes"),
    "flipped": ("dropped", "UNREADABLE", "scenes"),
    "empty": ("dropped", "UNREADABLE", "download"),
    "text": ("dropped", "UNREADABLE", "download"),
    "audio-only": ("dropped", "NO_VIDEO", "scenes"),
    "video-only": ("dropped", "NO_AUDIO", "normalize"),
    "silent": ("dropped", "SILENT", "normalize"),
    "too-short": ("dropped", "TOO_SHORT", "scenes"),
    "not-there": ("dropped", "UNAVAILABLE", "download"),
    "http-good": KEPT,
    "http-404": ("dropped", "UNAVAILABLE", "download"),
    "http-403": ("failed", "AuthRequired", "download"),
    "http-429": ("failed", "Transient", "download"),
    "http-cut": ("failed", "Transient", "download"),
    "http-longer": ("failed", "Transient", "download"),
    "http-stalled": ("failed", "Transient", "download"),
    "no-licence": ("dropped", "LICENCE", "download"),
}


def test_a_picture_without_faces_is_said_to_have_none(tmp_path: Path) -> None:
    if registry.missing(registry.get("mediapipe_face")) or registry.missing(registry.get("mediapipe_mesh")):
        pytest.skip("no weights: dyconv models pull --all-default")
    media = make_media(tmp_path / "blob.mp4", duration=3.0).path
    (tmp_path / "m.csv").write_text(f"id,url,licence\nblob,{media},CC0-1.0\n")
    summary = run(recipes.load("demo"), tmp_path / "m.csv", str(tmp_path / "out"), HERE)
    (log,) = read_ledger(Store(tmp_path / "out")).values()
    assert (source_standing(log).reason, source_standing(log).stage) == ("NO_FACE", "tracks")
    assert summary.exit_code == 0


def dirty_files(folder: Path) -> dict[str, Path]:
    good = make_media(folder / "good.mp4", duration=3.0, options={"movflags": "+faststart"}).path
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("<html>not a video</html>" * 50)
    small = {"duration": 2.0, "size": (160, 90)}
    return {
        "good": good,
        "rotated": make_media(folder / "rotated.mp4", rotation=90, **small).path,
        "wide-pixels": make_media(folder / "sar.mp4", sar=Fraction(4, 3), **small).path,
        "varying-rate": make_media(folder / "vfr.mp4", times=times_vfr(2.0), **small).path,
        "late-start": make_media(folder / "late.mp4", start=1.5, **small).path,
        "odd-size": make_media(folder / "odd.mkv", duration=2.0, size=(161, 91)).path,
        "ntsc-44100": make_media(folder / "ntsc.mp4", times=times_cfr(2.0, Fraction(30000, 1001)), **small).path,
        "truncated-10": truncate(good, folder / "t10.mp4", 0.1),
        "truncated-50": truncate(good, folder / "t50.mp4", 0.5),
        "truncated-99": truncate(good, folder / "t99.mp4", 0.99),
        "flipped": flip_bits(good, folder / "flipped.mp4", 400),
        "empty": folder / "empty.mp4",
        "text": folder / "text.mp4",
        "audio-only": make_media(folder / "audio.m4a", duration=2.0, video=None).path,
        "video-only": make_media(folder / "mute.mp4", audio=None, **small).path,
        "silent": make_media(folder / "silent.mp4", silent=True, **small).path,
        "too-short": make_media(folder / "short.mp4", duration=0.2, size=(160, 90)).path,
        "not-there": folder / "nowhere.mp4",
    }


def serve_dirty(server: FaultServer, body: bytes) -> dict[str, str]:
    faults = {
        "http-good": None,
        "http-404": Fault(status=404),
        "http-403": Fault(status=403),
        "http-429": Fault(status=429, headers={"Retry-After": "1"}),
        "http-cut": Fault(cut_at=2000),
        "http-longer": Fault(declare=5000),
        "http-stalled": Fault(stall_at=1000),
    }
    urls = {}
    for name, fault in faults.items():
        urls[name] = server.serve(f"{name}.mp4", body, fault=lambda _, fault=fault: fault)
    return urls


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RunSummary]]:
    """A finished run of `cuts` over all of it, with a downloader that loses patience soon."""
    folder = tmp_path_factory.mktemp("dirty")
    with pytest.MonkeyPatch.context() as patch, FaultServer() as server:
        patch.setenv("DYCONV_CACHE", str(folder / "cache"))
        files = dirty_files(folder)
        urls = {name: str(path) for name, path in files.items()} | serve_dirty(server, files["good"].read_bytes())
        rows = [{"id": name, "url": url, "licence": "CC0-1.0"} for name, url in urls.items()]
        rows.append({"id": "no-licence", "url": f"{urls['http-good']}?again"})
        manifest = folder / "manifest.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe = recipes.load("cuts")
        download = replace(recipe.stage("download"), attempts=2, timeout_s=1.0, max_wait_s=1.5, backoff_s=0.1)
        recipe = replace(recipe, stages=(download, *recipe.stages[1:]), max_failure_rate=1.0)
        yield folder / "out", run(recipe, manifest, str(folder / "out"), HERE)


def test_each_source_ends_in_its_own_named_state(dirty: tuple[Path, RunSummary]) -> None:
    out, _ = dirty
    found = {log.id: source_standing(log) for log in read_ledger(Store(out)).values()}
    assert {name: (str(s.state), s.reason, s.stage) for name, s in found.items()} == WANTED


def test_what_failed_is_told_and_what_is_kept_is_packed(dirty: tuple[Path, RunSummary]) -> None:
    out, summary = dirty
    kept = [name for name, wanted in WANTED.items() if wanted is KEPT]
    assert summary.exit_code == 3 and summary.failed == 5 and summary.kept == len(kept)
    assert not check(Store(out), deep=True).problems
