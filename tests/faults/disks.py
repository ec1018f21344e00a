"""A disk that is full, read-only or lost something: said, nothing finished is lost, and made good by the same command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.driver import Job
from tests.faults.kills import with_workers
from tests.faults.scenario import Skipped, Trial, scenario

_BLOCK = 4096


@contextmanager
def disk(trial: Trial, size: int) -> Iterator[Path]:
    """A file system in memory of so many bytes; only root can mount one."""
    folder = trial.folder / "disk"
    folder.mkdir()
    if not mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)):
        raise Skipped("needs root, to mount a small file system")
    try:
        yield folder
    finally:
        trial.gone()
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def mounted(*options: str) -> bool:
    if os.geteuid() or shutil.which("mount") is None:
        return False
    return subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0


def taken(folder: Path) -> int:
    """Bytes of the blocks its files take."""
    return sum(-(-path.stat().st_size // _BLOCK) * _BLOCK for path in folder.rglob("*") if path.is_file())


def full(trial: Trial, job: Job, size: int, what: str) -> None:
    """Run on a disk of `size` until it is full, make room, run again."""
    with disk(trial, size) as folder:
        out = folder / "out"
        driver = trial.start(job, out=out)
        code = trial.ends(driver)
        said = driver.said()
        trial.did(f"{what}: a disk of {size / 2**20:.1f} MiB")
        trial.require(code == 1, f"exit code {code} on a full disk, expected 1")
        trial.record.message = next((line for line in said.splitlines() if line.startswith("error")), "")
        trial.require("Traceback" not in said, "a traceback was shown")
        trial.require("space" in trial.record.message, "the message does not say that the disk is full")
        trial.require("make room" in said, "it does not say what to do")
        trial.require(not list(out.rglob("failed.json")), "a clip was blamed for the full disk")
        finished = set(out.glob("work/*/*/*/done.json"))
        stamps = {path: path.stat().st_mtime_ns for path in finished}
        trial.require(mounted("-o", f"remount,size={size + 2**28}", str(folder)), "the disk cannot be made larger")
        trial.again(job, out=out)
        redone = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
        trial.require(not redone, f"{len(redone)} finished executions were done again: {redone[:2]}")
        trial.whole(job, out)


@scenario(
    "disk.full-stage", "the disk full while stages write: says so, blames no clip, goes on when there is room", seeds=5, quick=1
)
def full_stage(trial: Trial) -> None:
    job = trial.place.cuts
    work = taken(trial.place.folder_of(job) / "work")
    full(trial, job, int(work * trial.chance.uniform(0.05, 0.95)), "full while a stage writes")


@scenario("disk.full-demo", "the same with every stage and model of the default chain", seeds=1, quick=0)
def full_demo(trial: Trial) -> None:
    job = trial.place.demo
    work = taken(trial.place.folder_of(job) / "work")
    full(trial, job, int(work * trial.chance.uniform(0.1, 0.95)), "full while a stage writes")


@scenario("disk.full-pack", "the disk full while shards are written: the same", seeds=2, quick=1)
def full_pack(trial: Trial) -> None:
    job = trial.place.cuts
    built = trial.place.folder_of(job)
    rest = taken(built) - taken(built / "shards")
    full(trial, job, int(rest + taken(built / "shards") * trial.chance.uniform(0.05, 0.6)), "full while packing")


@scenario("disk.read-only", "an output folder that cannot be written: refused at once with the reason", quick=1)
def read_only(trial: Trial) -> None:
    job = trial.place.cuts
    with disk(trial, 2**24) as folder:
        trial.require(mounted("-o", "remount,ro", str(folder)), "the disk cannot be made read-only")
        driver = trial.start(job, out=folder / "out")
        code = trial.ends(driver, 60)
        trial.did("an output folder on a read-only disk")
        trial.record.message = next((line for line in driver.said().splitlines() if line.startswith("error")), "")
        trial.require(code == 1, f"exit code {code}, expected 1")
        trial.require("Traceback" not in driver.said(), "a traceback was shown")
        trial.require("cannot be written" in driver.said() or "Read-only" in driver.said(), "it does not say why")
        mounted("-o", "remount,rw", str(folder))
        trial.again(job, out=folder / "out")
        trial.whole(job, folder / "out")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_json(path: Path) -> None:
    path.write_text(json.dumps({"clip": 3, "outcomes": "none"}))


def not_json(path: Path) -> None:
    path.write_bytes(b"\x00\xff{" * 20)


HARMS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "done.json cut in half": ("done.json", truncate),
    "done.json empty": ("done.json", empty),
    "done.json of another make": ("done.json", other_json),
    "done.json full of zeros": ("done.json", not_json),
    "an asset cut in half": ("*.mp4", truncate),
    "a sound cut in half": ("*.flac", truncate),
    "an asset empty": ("*.mp4", empty),
    "an asset gone": ("*.mp4", Path.unlink),
}


@scenario(
    "disk.harmed-work", "finished work cut short, emptied or lost while no driver runs: found and made again", seeds=8, quick=1
)
def harmed_work(trial: Trial) -> None:
    """The driver is killed in the middle, files of what is finished are harmed, the same command goes on."""
    job = trial.place.cuts
    total = sum(path.endswith("/done.json") for path in trial.place.undisturbed(job))
    driver = trial.start(with_workers(job, 1))
    driver.until(lambda: driver.done() >= total // 2)
    driver.process.kill()
    trial.killed(driver)
    name, (pattern, harm) = list(HARMS.items())[trial.record.seed % len(HARMS)]
    found = sorted(path for path in (trial.out / "work").rglob(pattern))
    for path in trial.chance.sample(found, min(2, len(found))):
        harm(path)
        trial.did(f"{name}: {path.relative_to(trial.out).parts[1]}/.../{path.name}")
    trial.again(job)
    trial.whole(job)


@scenario("disk.harmed-shards", "shards, index or table cut short, emptied or lost: written again", seeds=3, quick=0)
def harmed_shards(trial: Trial) -> None:
    job = trial.place.cuts
    trial.again(job)
    for path in sorted((trial.out / "shards").iterdir()):
        harm = trial.chance.choice((truncate, empty, Path.unlink))
        harm(path)
        trial.did(f"{path.name}: {harm.__name__}")
    trial.again(job)
    trial.whole(job)


@scenario(
    "disk.harmed-finished",
    "the same after a run that ended well, and a flipped bit: found when shards are written",
    seeds=6,
    quick=1,
)
def harmed_finished(trial: Trial) -> None:
    """Shards are lost as well: what is whole in the shards is not read again, and need not be."""
    job = trial.place.cuts
    trial.again(job)
    name, (pattern, harm) = list(HARMS.items())[(3 * trial.record.seed) % len(HARMS)]
    if trial.record.seed % 2:
        name, pattern, harm = "a flipped bit in an asset", "*.mp4", flip
    # What the dataset is made of: assets of clips, and the last stage's notes. Notes of earlier stages are not needed again.
    stages = ("misbehave",) if pattern == "done.json" else ("clips", "misbehave")
    kept = [path for path in (trial.out / "work").rglob(pattern) if path.parts[-4] in stages]
    for path in trial.chance.sample(sorted(kept), 2):
        harm(path)
        trial.did(f"{name}: {path.relative_to(trial.out).parts[1]}/.../{path.name}")
    shutil.rmtree(trial.out / "shards")
    trial.again(job)
    trial.whole(job)


@scenario("disk.torn-ledger", "the ledger's last line torn, as by a power cut: written again", quick=0)
def torn_ledger(trial: Trial) -> None:
    job = trial.place.cuts
    driver = trial.start(job)
    driver.until(lambda: driver.done() >= 6)
    driver.process.kill()
    trial.killed(driver)
    ledger = sorted((trial.out / "ledger").iterdir())[-1]
    ledger.write_bytes(ledger.read_bytes()[: -trial.chance.randint(2, 60)])
    trial.did("the end of the ledger cut off in the middle of a line")
    trial.again(job)
    trial.whole(job)


@scenario(
    "disk.manifest-gone", "the manifest vanishes during a run, and is missing at the next: the one ends well, the other says so"
)
def manifest_gone(trial: Trial) -> None:
    job = trial.place.cuts
    trial.place.undisturbed(job)
    manifest = trial.folder / "m.csv"
    manifest.write_bytes(job.manifest.read_bytes())
    moved = Job(job.name, job.recipe, manifest, job.sources, job.options)
    driver = trial.start(moved)
    driver.until(lambda: driver.done() >= 2)
    manifest.unlink()
    trial.did("the manifest removed after 2 executions")
    trial.require(trial.ends(driver) == 0, "the run that had read the manifest did not end well")
    trial.whole(job)
    code = trial.ends(trial.start(moved), 30)
    said = trial.drivers[-1].said()
    trial.record.message = next((line for line in said.splitlines() if line.startswith("error")), "")
    trial.require(code == 2 and "m.csv" in said and "Traceback" not in said, f"a missing manifest gave {code}: {said}")
    trial.whole(job)
