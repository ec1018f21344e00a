"""The runner on the local backend: states, reuse, failures, exit codes, funnel, commands."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dyconv import recipes
from dyconv.errors import DyconvError, ManifestError, ModelMissing, ResourceError, TooManyFailures, UsageError
from dyconv.ledger import clip_standings, read_events, read_ledger, source_standing
from dyconv.recipe import Recipe
from dyconv.records import Key
from dyconv.runner import RunOptions, RunSummary, kept_clips, run
from dyconv.stages.base import Resources
from dyconv.store import Store
from tests.fakes import Cut, Fetch, Last, Mark, NoSetup, recipe, write_manifest

HERE = RunOptions(workers=0)
PIECES = ("00000000_00004000", "00004000_00008000", "00008000_00012000")


def go(out: Path, made: Recipe, names: list[str], options: RunOptions = HERE) -> RunSummary:
    out.mkdir(exist_ok=True)
    return run(made, write_manifest(out / "manifest.csv", names), str(out), options)


def states(out: Path) -> dict[str, tuple[str, str | None, str | None]]:
    logs = read_ledger(Store(out)).values()
    standings = [source_standing(log) for log in logs] + [item for log in logs for item in clip_standings(log)]
    return {item.id: (str(item.state), item.reason, item.stage) for item in standings}


def assets(out: Path) -> dict[str, bytes]:
    """Every asset below work/, without the runner's own notes."""
    notes = {"done.json", "failed.json", "attempt.json"}
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in (out / "work").rglob("*")
        if path.is_file() and path.name not in notes
    }


def executed(out: Path) -> dict[str, int]:
    """Times of all done.json files: a stage that is executed again writes it again."""
    return {str(path): path.stat().st_mtime_ns for path in (out / "work").rglob("done.json")}


def test_every_source_and_clip_ends_in_a_named_state(tmp_path: Path) -> None:
    made = recipe(cut=Cut(bad_at=5), mark=Mark(raises="ok-2_00008"), last=Last(until_s=8))
    summary = go(tmp_path, made, ["ok-1", "ok-2", "gone-1", "broken-1", "bad id"])
    found = states(tmp_path)
    bad = next(name for name in found if name.startswith("row-"))
    assert found == {
        "ok-1": ("kept", None, "last"),
        "ok-2": ("kept", None, "last"),
        "gone-1": ("dropped", "UNAVAILABLE", "fetch"),
        "broken-1": ("failed", "RuntimeError", "fetch"),
        bad: ("dropped", "BAD_ROW", "manifest"),
        f"ok-1_{PIECES[0]}": ("kept", None, "last"),
        f"ok-1_{PIECES[1]}": ("dropped", "NO_FACE", "cut"),
        f"ok-1_{PIECES[2]}": ("dropped", "NOT_DYADIC", "last"),
        f"ok-2_{PIECES[0]}": ("kept", None, "last"),
        f"ok-2_{PIECES[1]}": ("dropped", "NO_FACE", "cut"),
        f"ok-2_{PIECES[2]}": ("failed", "ValueError", "mark"),
    }
    assert (summary.kept, summary.failed, summary.exit_code) == (2, 2, 3)


def test_the_funnel_adds_up(tmp_path: Path) -> None:
    made = recipe(cut=Cut(bad_at=5), mark=Mark(raises="ok-2_00008"), last=Last(until_s=8))
    go(tmp_path, made, ["ok-1", "ok-2", "gone-1", "broken-1", "bad id"])
    rows = {row["stage"]: row for row in json.loads((tmp_path / "funnel.json").read_text())["stages"]}
    assert list(rows) == ["manifest", "fetch", "cut", "mark", "last"]
    counts = {name: (row["in"], row["out"], row["dropped"], row["failed"]) for name, row in rows.items()}
    assert counts == {
        "manifest": (1, 0, {"BAD_ROW": 1}, {}),
        "fetch": (4, 2, {"UNAVAILABLE": 1}, {"RuntimeError": 1}),
        "cut": (2, 4, {"NO_FACE": 2}, {}),
        "mark": (4, 3, {}, {"ValueError": 1}),
        "last": (3, 2, {"NOT_DYADIC": 1}, {}),
    }
    assert rows["cut"]["hours_in"] == pytest.approx(24 / 3600, abs=1e-6)
    assert rows["cut"]["hours_out"] == pytest.approx(16 / 3600, abs=1e-6)
    assert rows["last"]["hours_out"] == pytest.approx(8 / 3600, abs=1e-6)


def test_kept_clips_carry_their_assets(tmp_path: Path) -> None:
    go(tmp_path, recipe(), ["ok-1"])
    store = Store(tmp_path)
    clips = list(kept_clips(store))
    assert [clip.id for clip in clips] == [f"ok-1_{piece}" for piece in PIECES]
    for clip in clips:
        assert set(clip.assets) == {Key.VIDEO, Key.MIX}
        video, mix = (store.verified(clip.assets[key]).read_bytes() for key in (Key.VIDEO, Key.MIX))
        assert mix == video[::-1]


def test_a_second_run_executes_nothing_and_writes_no_event(tmp_path: Path) -> None:
    go(tmp_path, recipe(), ["ok-1", "gone-1"])
    before, events = executed(tmp_path), list(read_events(Store(tmp_path)))
    summary = go(tmp_path, recipe(), ["ok-1", "gone-1"])
    assert summary.executed == 0 and summary.exit_code == 0
    assert executed(tmp_path) == before and list(read_events(Store(tmp_path))) == events


def test_a_lost_ledger_is_made_again_from_the_work_done(tmp_path: Path) -> None:
    go(tmp_path, recipe(last=Last(until_s=8)), ["ok-1", "gone-1"])
    before, was = executed(tmp_path), states(tmp_path)
    shutil.rmtree(tmp_path / "ledger")
    go(tmp_path, recipe(last=Last(until_s=8)), ["ok-1", "gone-1"])
    assert executed(tmp_path) == before and states(tmp_path) == was


def test_a_changed_field_redoes_only_what_lies_behind_it(tmp_path: Path) -> None:
    go(tmp_path, recipe(), ["ok-1"])
    before = executed(tmp_path)
    go(tmp_path, recipe(last=Last(until_s=4)), ["ok-1"])
    new = executed(tmp_path).keys() - before.keys()
    assert {Path(path).parents[2].name for path in new} == {"last"} and len(new) == 3
    assert all(executed(tmp_path)[path] == stamp for path, stamp in before.items())
    assert states(tmp_path)[f"ok-1_{PIECES[1]}"] == ("dropped", "NOT_DYADIC", "last")
    go(tmp_path, recipe(), ["ok-1"])
    assert states(tmp_path)[f"ok-1_{PIECES[1]}"] == ("kept", None, "last")
    assert executed(tmp_path).keys() == before.keys() | new


def test_a_deleted_asset_is_made_again_when_its_source_is_walked(tmp_path: Path) -> None:
    go(tmp_path, recipe(), ["ok-1"])
    was = assets(tmp_path)
    lost = next(path for path in (tmp_path / "work" / "mark").rglob("*.flac"))
    lost.unlink()
    shutil.rmtree(tmp_path / "ledger")
    go(tmp_path, recipe(), ["ok-1"])
    assert assets(tmp_path) == was


def test_a_local_source_that_changed_is_processed_again(tmp_path: Path) -> None:
    media = tmp_path / "ok.mp4"
    media.write_bytes(b"one")
    manifest = tmp_path / "m.csv"
    manifest.write_text("id,url,licence\ns,ok.mp4,own\n")
    assert run(recipe(), manifest, str(tmp_path / "out"), HERE).executed == 1
    assert run(recipe(), manifest, str(tmp_path / "out"), HERE).executed == 0
    media.write_bytes(b"another")
    assert run(recipe(), manifest, str(tmp_path / "out"), HERE).executed == 1


def test_failures_wait_for_retry_failed(tmp_path: Path) -> None:
    go(tmp_path, recipe(), ["ok-1", "broken-1"])
    failed = next((tmp_path / "work" / "fetch").rglob("failed.json"))
    assert "RuntimeError" in json.loads(failed.read_text())["traceback"]
    before = failed.read_text()
    assert go(tmp_path, recipe(), ["ok-1", "broken-1"]).executed == 0
    assert failed.read_text() == before
    again = go(tmp_path, recipe(), ["ok-1", "broken-1"], replace(HERE, retry_failed=True))
    assert again.executed == 1 and failed.read_text() != before


def test_retry_failed_heals_what_was_the_machines_fault(tmp_path: Path) -> None:
    spark = tmp_path / "spark"
    spark.touch()
    made = recipe(mark=Mark(raises="ok-1_00004", spark=str(spark)))
    assert go(tmp_path / "out", made, ["ok-1"]).exit_code == 3
    before = executed(tmp_path / "out")
    spark.unlink()
    assert go(tmp_path / "out", made, ["ok-1"], replace(HERE, retry_failed=True)).exit_code == 0
    assert not list((tmp_path / "out" / "work").rglob("failed.json"))
    assert all(executed(tmp_path / "out")[path] == stamp for path, stamp in before.items())
    go(tmp_path / "undisturbed", made, ["ok-1"])
    assert assets(tmp_path / "out") == assets(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["ok-1"], 0),
        (["gone-1", "gone-2"], 0),
        (["ok-1", "broken-1"], 3),
        (["broken-1"], 1),
        (["broken-1", "gone-1"], 1),
    ],
)
def test_exit_codes_tell_the_truth(tmp_path: Path, names: list[str], code: int) -> None:
    assert go(tmp_path, recipe(), names).exit_code == code


def test_too_many_failures_stop_the_run_and_lose_nothing(tmp_path: Path) -> None:
    names = [f"ok-{i}" for i in range(3)] + [f"broken-{i:02}" for i in range(40)]
    with pytest.raises(TooManyFailures, match=r"of 2\d clips failed"):
        go(tmp_path, recipe(max_failure_rate=0.4), names)
    found = states(tmp_path)
    assert sum(state == "kept" for state, _, _ in found.values()) == 3 + 9
    assert any(state == "pending" for state, _, _ in found.values())
    # The old failures are known: they are not held against the next run.
    summary = go(tmp_path, recipe(max_failure_rate=1.0), names)
    assert not any(state == "pending" for state, _, _ in states(tmp_path).values()) and summary.exit_code == 3


def test_a_shorter_manifest_takes_sources_out(tmp_path: Path) -> None:
    go(tmp_path, recipe(), ["ok-1", "ok-2"])
    before = executed(tmp_path)
    go(tmp_path, recipe(), ["ok-1", "ok-2"], replace(HERE, limit=1))
    assert {clip.source.id for clip in kept_clips(Store(tmp_path))} == {"ok-1"}
    go(tmp_path, recipe(), ["ok-1", "ok-2"])
    assert {clip.source.id for clip in kept_clips(Store(tmp_path))} == {"ok-1", "ok-2"}
    assert executed(tmp_path) == before


def test_a_stage_that_cannot_be_set_up_stops_the_run_and_blames_no_clip(tmp_path: Path) -> None:
    made = Recipe(name="unfit", about="", stages=(Fetch(), NoSetup()))
    for workers in (0, 1):
        with pytest.raises(DyconvError, match=r"nosetup could not be set up: ImportError: libEGL"):
            go(tmp_path, made, ["ok-1"], RunOptions(workers=workers))
    assert states(tmp_path)["ok-1"][0] == "pending"


def test_a_stage_that_asks_for_too_much_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    made = recipe(resources={"mark": Resources(cpus=4000)})
    with pytest.raises(ResourceError, match=r"mark asks for 4000 CPUs.*has \d+ CPUs"):
        go(tmp_path, made, ["ok-1"])
    assert not (tmp_path / "ledger").exists() and not (tmp_path / "work").exists()


def test_usage_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no backend called 'spark'"):
        RunOptions(backend="spark")
    with pytest.raises(UsageError, match="--limit must be at least 1"):
        RunOptions(limit=0)
    with pytest.raises(ManifestError, match="has no rows"):
        go(tmp_path, recipe(), [])


def test_processes_give_the_same_as_this_process(tmp_path: Path) -> None:
    made = recipe(cut=Cut(bad_at=5), mark=Mark(raises="ok-2_00008"), last=Last(until_s=8))
    names = ["ok-1", "ok-2", "gone-1", "broken-1"]
    go(tmp_path / "a", made, names)
    go(tmp_path / "b", made, names, RunOptions(workers=2))
    assert assets(tmp_path / "a") == assets(tmp_path / "b")
    assert story(tmp_path / "a") == story(tmp_path / "b")


def story(out: Path) -> set[str]:
    """The ledger without what may differ between two runs: order and times."""
    return {json.dumps({**event.to_json(), "seconds": 0}, sort_keys=True) for event in read_events(Store(out))}


def test_status_is_one_json_object(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    go(tmp_path, recipe(cut=Cut(bad_at=5)), ["ok-1", "broken-1"])
    assert command("status", str(tmp_path), "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert set(found) == {"sources", "clips"}
    common = {"id", "state", "reason", "stage", "detail", "seconds"}
    assert {name: set().union(*rows) - common for name, rows in found.items()} == {
        "sources": {"failed", "kept"},
        "clips": {"source"},
    }
    assert [item["id"] for item in found["sources"]] == ["ok-1", "broken-1"]
    assert command("status", str(tmp_path)) == 0
    assert "RuntimeError" in capfd.readouterr().out


def test_replay_runs_one_stage_again_and_changes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from tests.fakes import Cut, Mark, recipe\nRECIPE = recipe(cut=Cut(bad_at=5), mark=Mark(raises='00008'))\n"
    )
    manifest = write_manifest(tmp_path / "m.csv", ["ok-1", "broken-1"])
    out = tmp_path / "out"
    assert command("run", str(file), "--manifest", str(manifest), "--out", str(out), "--backend", "local") == 3
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    capfd.readouterr()
    for clip, stage, code, says in (
        (f"ok-1_{PIECES[2]}", "mark", 1, "ValueError: expected something else"),
        (f"ok-1_{PIECES[0]}", "mark", 0, "marked = 1.0"),
        ("ok-1", "cut", 0, "NO_FACE"),
        ("ok-1", "fetch", 0, "passed ok-1"),
        ("broken-1", "fetch", 1, "RuntimeError"),
    ):
        assert command("replay", clip, stage, "--out", str(out)) == code
        assert says in capfd.readouterr().out
    for clip, stage in (("nobody", "mark"), ("broken-1", "mark"), ("ok-1", "nothing")):
        with pytest.raises(UsageError):
            command("replay", clip, stage, "--out", str(out))
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def command(*argv: str) -> int:
    """Exit status of the command line, in this process."""
    from dyconv.cli import build

    try:
        build()(list(argv), standalone_mode=True)
    except SystemExit as stop:
        return int(stop.code or 0)
    raise AssertionError("the command line always exits")


PROBE = """
import sys
from dyconv.cli import main
try:
    main()
finally:
    print([name for name in ("ray", "torch", "av") if name in sys.modules])
"""


def test_the_cost_of_a_run_with_nothing_to_do_is_small(tmp_path: Path) -> None:
    """1,000 finished sources: no model, no Ray, no torch. The bound is generous, because machines are noisy."""
    file = tmp_path / "small.py"
    file.write_text("from tests.fakes import Fetch, Recipe\nRECIPE = Recipe(name='small', about='', stages=(Fetch(),))\n")
    manifest = write_manifest(tmp_path / "m.csv", [f"ok-{number:04}" for number in range(1000)])
    argv = ["run", str(file), "--manifest", str(manifest), "--out", str(tmp_path / "out")]
    assert command(*argv, "--backend", "local", "--workers", "0") == 0
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", PROBE, *argv], capture_output=True, text=True, check=True)
    assert time.monotonic() - started < 20
    assert "1000 finished before, 0 to do" in done.stderr
    assert done.stdout.strip() == "[]", "a run with nothing to do loaded what it does not need"


def test_a_broken_recipe_file_is_the_users_to_correct(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    for text, named in (
        ("RECIPE = 1 +", "line 1: SyntaxError"),
        ("\nimport no_such_module_here", "line 2: ModuleNotFoundError"),
    ):
        broken.write_text(text)
        with pytest.raises(UsageError, match=named):
            recipes.load(str(broken))


def test_missing_weights_are_told_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYCONV_CACHE", str(tmp_path / "no-weights"))
    manifest = tmp_path / "m.csv"
    manifest.write_text("id,url,licence\na,http://127.0.0.1:9/a.mp4,CC0-1.0\n")
    with pytest.raises(ModelMissing, match="mediapipe_face") as caught:
        run(recipes.load("demo"), manifest, str(tmp_path / "out"))
    assert "dyconv models pull mediapipe_face" in str(caught.value)
    assert not (tmp_path / "out" / "work").exists()


def test_messages_with_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    from io import StringIO

    from rich.console import Console

    manifest = tmp_path / "m.csv"
    manifest.write_text("id,url,licence\na,http://127.0.0.1/broken[/red],own\n")
    told = StringIO()
    run(recipe(), manifest, str(tmp_path / "out"), RunOptions(workers=0), console=Console(file=told, width=200))
    assert "failed a at fetch: RuntimeError: cannot read http://127.0.0.1/broken[/red]" in told.getvalue()
