"""The INFP trainer: from shards to weights, going on exactly where it stopped, and several processes that do what one does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from safetensors.torch import load_file

from dyconv.errors import ResourceError, ShardError, StoreError, UsageError
from dyconv.infp.config import STAGE1
from dyconv.infp.diffusion import Share
from dyconv.infp.stage1 import Stage1, load_stage1, save_stage1
from dyconv.infp.stage2 import Stage2
from dyconv.ray_runner import connect
from dyconv.shards import read_index
from dyconv.store import Store
from tests.conftest import ROOT
from tests.talk_build import talk_build
from training.infp.checkpoint import checkpoints, newest, read_checkpoint
from training.infp.job import Job, prepare, train
from training.infp.learner import rate_at, rows_of
from training.infp.monitor import Monitor, read_log
from training.infp.on_ray import train_on_ray
from training.infp.runs import TrainConfig, read_run
from training.infp.stage2_learner import Stage2Learner
from training.infp.talking import Talking
from training.infp.trainer import Ended, Trainer
from training.infp.world import World

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "stage1": {
        "preset": "debug",
        "model": {"size": 32, "channels": [8, 16, 16, 16], "warped": [8, 16], "style": 32},
        "train": {"batch": 4, "steps": 6, "judge_from": 2, "r1_every": 2, "weights": {"heads_until": 4}, "lanes": 2},
    },
    "stage2": {
        "preset": "debug",
        "model": {"width": 32, "window": 16, "context": 4, "bank": 4},
        "train": {"batch": 4, "steps": 6, "lanes": 2, "warmup": 2},
    },
}
TIMES = ("step_s", "wait_s", "rows_per_s", "loader_rows_per_s")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return talk_build(tmp_path_factory.mktemp("talks"))


def job(stage: str, build: Path, out: Path, *, model: Any = None, train: Any = None, **changes: Any) -> Job:
    """Of the smallest network, on the CPU."""
    told = {**SMALL[stage], "model": {**SMALL[stage]["model"], **(model or {})}}  # type: ignore[dict-item]
    told["train"] = {**SMALL[stage]["train"], **(train or {})}  # type: ignore[dict-item]
    config = out.parent / f"{out.name}.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps(told))
    return Job(stage, str(config), (str(build),), str(out), device="cpu", **{"log_every": 1, "sample_every": 100, **changes})


def losses(out: Path, kind: str = "train") -> list[dict[str, float]]:
    """What was told of each step, without what depends on the clock."""
    return [
        {name: value for name, value in row.items() if name not in (*TIMES, "kind")}
        for row in read_log(out / "log.jsonl")
        if row["kind"] == kind
    ]


def same(one: Any, other: Any) -> bool:
    """To the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.fixture(scope="module", params=["stage1", "stage2"])
def whole(request: pytest.FixtureRequest, build: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A training that nothing disturbed."""
    torch.set_num_threads(1)
    made = job(request.param, build, tmp_path_factory.mktemp("whole") / "out", val=(str(build),), save_every=3)
    assert train(made) == 0
    return made


def test_a_training_leaves_weights_log_samples_and_measures(whole: Job) -> None:
    out = Path(whole.out)
    if whole.stage == "stage1":
        model = load_stage1(out / "encoder.safetensors", out / "renderer.safetensors")
        assert model.config.size == 32
        assert (out / "samples" / "sheet-00000006.png").stat().st_size > 1000
        (measured,) = losses(out, "val")
        assert 0 < measured["region_share"] < 5 and measured["r2_head_yaw"] <= 1
    else:
        encoder = read_index(Store(whole.data[0])).encoder
        assert encoder is not None
        stage2 = Stage2.load(out / "stage2.safetensors", encoder_hash=encoder.hash)
        assert stage2.config.latent == 64 and not torch.equal(stage2.codes.scale, torch.ones(20))
        assert losses(out, "val")[0]["error"] > 0
        assert (out / "samples" / "curves-00000006.png").stat().st_size > 5000
    rows = losses(out)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(row["grad_norm"] > 0 and row["rate"] > 0 for row in rows)
    if whole.stage == "stage1":  # the adversary comes, its penalty now and then, the heads go
        assert [("judge" in row, "judge_r1" in row, "heads" in row) for row in rows] == [
            *[(False, False, True)] * 2,
            (True, True, True),
            (True, False, True),
            (True, True, False),
            (True, False, False),
        ]
    assert len(list((out / "tensorboard").glob("events*"))) == 1
    assert [path.name for path in checkpoints(out)] == ["step-00000003.pt", "step-00000006.pt"]


def test_going_on_is_as_if_nothing_had_happened(whole: Job, tmp_path: Path) -> None:
    """From the third of six steps on, bit for bit, though the newest checkpoint is cut off."""
    out = tmp_path / "out"
    shutil.copytree(whole.out, out)
    for path in out.glob("*.safetensors"):
        path.unlink()
    (out / "checkpoints" / "step-00000006.pt").write_bytes(
        Path(whole.out, "checkpoints", "step-00000006.pt").read_bytes()[:5000]
    )
    assert train(replace(whole, out=str(out))) == 0
    ours, theirs = (read_checkpoint(checkpoints(folder)[-1]) for folder in (out, Path(whole.out)))
    assert ours["position"] == 6 and same(ours, theirs)
    for path in Path(whole.out).glob("*.safetensors"):
        assert same(load_file(out / path.name), load_file(path))
    assert losses(out) == losses(Path(whole.out))


def test_what_a_folder_holds_is_not_gone_on_with_as_something_else(whole: Job, build: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train\.seed 5, not 0") as error:
        train(replace(whole, seed=5))
    assert "--no-resume" in str(error.value)
    with pytest.raises(UsageError, match="on other data"):
        train(replace(whole, data=(str(build), str(build))))
    with pytest.raises(UsageError, match="no checkpoint to go on from"):
        train(replace(whole, out=str(tmp_path / "new"), resume=True))
    folder = tmp_path / "damaged" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "step-00000009.pt").write_bytes(b"PK nothing")
    with pytest.raises(StoreError, match="none of 1 checkpoints"):
        train(replace(whole, out=str(tmp_path / "damaged")))
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="found a file"):
        train(replace(whole, out=str(tmp_path / "file")))


def test_no_resume_begins_anew_and_more_steps_go_further(build: Path, tmp_path: Path) -> None:
    made = job("stage2", build, tmp_path / "out", minutes=0.0)
    assert train(made) == 0
    assert newest(tmp_path / "out")["position"] == 1 and (tmp_path / "out" / "stage2.safetensors").is_file()  # type: ignore[index]
    assert train(replace(made, minutes=None, steps=3)) == 0
    assert newest(tmp_path / "out")["position"] == 3  # type: ignore[index]
    assert train(replace(made, resume=False)) == 0
    assert [path.name for path in checkpoints(tmp_path / "out")] == ["step-00000001.pt"]
    assert [row["step"] for row in losses(tmp_path / "out")] == [1]


@pytest.mark.timeout(900)
def test_ctrl_c_leaves_a_checkpoint(build: Path, tmp_path: Path) -> None:
    """Also where others decode, whom the terminal interrupts too."""
    made = job("stage2", build, tmp_path / "out")
    command = [
        sys.executable,
        "-m",
        "training.train",
        "stage2",
        "--config",
        made.config,
        "--data",
        str(build),
        "--out",
        made.out,
    ]
    command += ["--steps", "100000", "--log-every", "1", "--workers", "1", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        assert run.stderr is not None
        told = [run.stderr.readline()]
        while told[-1] and not told[-1].startswith("train 2:"):
            told.append(run.stderr.readline())
        os.killpg(run.pid, signal.SIGINT)
        told += run.stderr.readlines()
        assert run.wait(120) == 130, "".join(told)
    held = newest(tmp_path / "out")
    assert held is not None and 2 <= held["position"] < 100_000
    assert "interrupted at step" in told[-1] and not any("Traceback" in line for line in told)
    assert not (tmp_path / "out" / "stage2.safetensors").exists()


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_one_batch_is_learnt_by_heart(stage: str, build: Path, tmp_path: Path) -> None:
    settings = {"steps": 40, "rate": 2e-3, "judge_from": 0} if stage == "stage1" else {"steps": 120, "rate": 3e-3}
    made = job(stage, build, tmp_path / "out", train=settings)
    trainer = prepare(made, World(), [read_index(Store(build))])
    batches: Any = trainer.source(0)
    batch = next(iter(batches))
    batches.close()
    assert Trainer(trainer.learner, lambda start: repeat(batch), tmp_path / "out").run() is Ended.DONE
    told = [row["loss"] for row in losses(tmp_path / "out")]
    assert told[-1] < 0.6 * told[0], told


def test_stage2_is_watched_as_film(build: Path, tmp_path: Path) -> None:
    trainer = prepare(job("stage2", build, tmp_path / "out"), World(), [read_index(Store(build))])
    learner = trainer.learner
    assert isinstance(learner, Stage2Learner)
    sizes = replace(STAGE1["debug"], size=32, channels=(8, 16, 16, 16), warped=(8, 16), latent=64)
    torch.manual_seed(0)
    model = Stage1(sizes).eval()
    watch = Talking((str(build),), learner.model.encoder_hash, 1, renderer=model.renderer)
    with Monitor(tmp_path / "out", 0, 10) as monitor:
        watch(learner, 7, monitor)
    film = tmp_path / "out" / "samples" / "talk-00000007.mp4"
    with av.open(str(film)) as opened:
        assert opened.streams.video[0].frames == 60 and len(opened.streams.audio) == 1
    save_stage1(model, tmp_path / "renderer.safetensors", parts=("renderer",))
    with pytest.raises(UsageError, match="renders motion latents of encoder"):
        train(job("stage2", build, tmp_path / "b", renderer=str(tmp_path / "renderer.safetensors")))


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_pieces_of_a_batch_add_up_to_it(stage: str, build: Path, tmp_path: Path) -> None:
    """With accumulation and in bf16, the first step is the same but for rounding."""
    changes: tuple[dict[str, Any], ...] = ({}, {"accumulate": 2}, {"precision": "bf16"})
    first: list[dict[str, float]] = []
    for number, change in enumerate(changes):
        made = job(stage, build, tmp_path / f"{number}", train={"judge_from": 0, **change} if stage == "stage1" else change)
        assert train(replace(made, steps=1)) == 0
        first.append(losses(tmp_path / f"{number}")[0])
    assert first[1] == pytest.approx(first[0], rel=2e-5)
    assert first[2]["loss"] == pytest.approx(first[0]["loss"], rel=0.03) and first[2] != first[0]


def test_a_share_of_a_batch_gets_what_it_would_get_in_the_whole(build: Path, tmp_path: Path) -> None:
    made = prepare(job("stage2", build, tmp_path / "out"), World(), [read_index(Store(build))])
    batches: Any = made.source(0)
    window = next(iter(batches))
    batches.close()
    mask = torch.arange(16) < torch.tensor([[16], [3], [9], [16]])
    window, model = replace(window, mask=mask), made.learner.model
    assert isinstance(model, Stage2)
    pairs = float((mask[:, 1:] & mask[:, :-1]).sum())
    with torch.no_grad():
        together = model.loss(window, torch.Generator().manual_seed(1))
        shares = [Share(first, 4, float(mask.sum()) / 2, pairs / 2) for first in (0, 2)]
        parts = [model.loss(rows_of(window, one.first, one.first + 2), torch.Generator().manual_seed(1), one) for one in shares]
    assert float(parts[0].error + parts[1].error) / 2 == pytest.approx(float(together.error), rel=1e-5)
    assert float(parts[0].velocity + parts[1].velocity) / 2 == pytest.approx(float(together.velocity), rel=1e-5)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("whole", ["stage1"], indirect=True)
def test_two_processes_do_what_one_does(whole: Job, tmp_path: Path) -> None:
    """Losses and measures agree to 1e-3 after steps with and without heads and adversary; rounding differs."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "training.train"]
    command += ["stage1", "--config", whole.config, "--data", whole.data[0], "--val", whole.data[0], "--out", str(out)]
    run = subprocess.run(
        [*command, "--log-every", "1", "--device", "cpu"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    one, two = losses(Path(whole.out)), losses(out)
    assert len(two) == 6 and all(row == pytest.approx(other, rel=1e-3) for row, other in zip(two, one, strict=True))
    assert two[0] == pytest.approx(one[0], rel=1e-5)
    assert (out / "encoder.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("whole", ["stage2"], indirect=True)
def test_ray_train_does_what_one_process_does(whole: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")
    asked = replace(whole, out=str(tmp_path / "out"))
    connect(logs=True)
    try:
        assert train_on_ray(asked, 2, 0.5) == 0
        with pytest.raises(UsageError, match=r"train\.seed 5, not 0"):
            train_on_ray(replace(asked, seed=5), 2, 0.5)
        with pytest.raises(ResourceError, match="lower --processes"):
            train_on_ray(asked, 999)
    finally:
        ray.shutdown()
    for kind in ("train", "val"):
        one, two = (losses(Path(made.out), kind) for made in (whole, asked))
        assert len(one) == len(two) and all(row == pytest.approx(other, rel=1e-3) for row, other in zip(two, one, strict=True))
    assert Stage2.load(tmp_path / "out" / "stage2.safetensors").config.latent == 64
    command = [sys.executable, str(ROOT / "pipelines" / "train.py"), "--help"]
    assert (
        "--processes" in subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=True).stdout
    )


def test_training_begins_from_weights(whole: Job, build: Path, tmp_path: Path) -> None:
    files = tuple(str(path) for path in sorted(Path(whole.out).glob("*.safetensors")))
    made = replace(whole, out=str(tmp_path / "out"), init=files)
    trainer = prepare(made, World(), [read_index(Store(build))])
    assert not getattr(trainer.learner.run.train, "footing", 0)  # both parts know each other already
    state, kept = trainer.learner.model.state_dict(), read_checkpoint(checkpoints(Path(whole.out))[-1])["learner"]["mean"]
    assert all(torch.allclose(state[name], kept[name], atol=2e-3, rtol=2e-3) for name in state)
    other = {"style": 16} if whole.stage == "stage1" else {"width": 16}
    with pytest.raises(UsageError, match=r"weights of another config, in (style|width)"):
        train(replace(job(whole.stage, build, tmp_path / "b", model=other), init=files))
    with pytest.raises(UsageError, match="to begin with, found 3"):
        train(replace(made, init=(*files, *files, *files)[:3]))


@pytest.mark.parametrize(
    "told, message",
    [
        ("nothing", "expected --config debug, tiny128, tiny, base or a JSON file"),
        ({"preset": "huge"}, "expected preset debug, tiny128, tiny, base, found 'huge'"),
        ({"preset": "debug", "train": {"bath": 4}}, "found bath"),
        ({"preset": "debug", "train": {"batch": "4"}}, "expected a value like 8, found '4'"),
        ({"preset": "debug", "train": {"precision": "fp8"}}, "float32 or bf16"),
        ({"preset": "debug", "train": {"steps": 0}}, "steps of 1 or more"),
        ({"preset": "debug", "model": {"size": 48}}, "go with a size of 64"),
        ({"preset": "debug", "stage": "stage2"}, "a config of stage2"),
        ({"preset": "debug", "wings": 2}, "found also wings"),
        ([], "found list"),
    ],
)
def test_configs_are_refused_by_name(told: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    if told != "nothing":
        path.write_text(json.dumps(told))
    with pytest.raises(UsageError, match=message):
        read_run("stage1", str(path))


def test_configs_are_what_they_say(tmp_path: Path) -> None:
    for stage in ("stage1", "stage2"):
        for preset in ("debug", "tiny", "base"):
            run = read_run(stage, preset, steps=7)
            (tmp_path / "again.json").write_text(json.dumps(run.to_json()))
            assert read_run(stage, str(tmp_path / "again.json")) == run and run.train.steps == 7
    config = TrainConfig(steps=100, warmup=10, cooldown=20)
    assert [round(rate_at(config, step, 1.0), 2) for step in (0, 9, 50, 80, 90, 99)] == [0.1, 1.0, 1.0, 1.0, 0.5, 0.05]


def test_batches_that_cannot_be_dealt_and_builds_that_are_none(build: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 processes x 3 pieces"):
        train(job("stage1", build, tmp_path / "out", train={"accumulate": 3}))
    with pytest.raises(ShardError, match=r"no shards/index\.json"):
        train(job("stage1", tmp_path, tmp_path / "out"))


def test_the_command_line_tells_by_its_exit_status(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.train import main

    def status(*words: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["train", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    made = job("stage2", build, tmp_path / "out")
    given = ("stage2", "--config", made.config, "--data", str(build), "--out", made.out, "--device", "cpu")
    assert status(*given, "--steps", "1") == 0
    assert status(*given, "--batch", "8") == 2
    assert status("stage2", "--config", made.config, "--data", str(tmp_path), "--out", made.out) == 1
    assert status("stage3", *given[1:]) == 2
    assert status("stage2", "--out", made.out) == 2
