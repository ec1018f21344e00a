"""The cost model: lines are fitted, schedules played through, clusters read, and runs predicted from other runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv.errors import ManifestError, ResourceError, UsageError
from dyconv.plan.answer import Prediction
from dyconv.plan.check import compare, compare_rates, show
from dyconv.plan.cluster import Cluster, Nodes, load_cluster
from dyconv.plan.fit import robust_line
from dyconv.plan.lengths import read_lengths
from dyconv.plan.measure import measure
from dyconv.plan.pools import pools_of
from dyconv.plan.predict import Planner, Question
from dyconv.plan.rates import Rates, load_rates
from dyconv.plan.schedule import makespan
from dyconv.recipe import Recipe
from dyconv.records import Clip, Drop, DropReason, Key
from dyconv.runner import RunOptions, run
from dyconv.stages.base import Files, Resources, Stage
from dyconv.store import Store
from dyconv.time import Span
from tests.mediagen import make_media
from tests.test_runner import command

SMALL = Cluster((Nodes(2, 4, 16.0),))


def test_a_line_is_found_though_some_items_are_wild() -> None:
    chance = np.random.default_rng(0)
    media = chance.uniform(2, 60, 200)
    seconds = 1.5 + 0.4 * media + chance.normal(0, 0.02, 200) * media
    fixed, per_media = robust_line(media, seconds)
    assert fixed == pytest.approx(1.5, abs=0.2) and per_media == pytest.approx(0.4, abs=0.02)
    wild = seconds.copy()
    wild[:10] *= 4
    fixed, per_media = robust_line(media, wild)
    assert (fixed + per_media * media).sum() == pytest.approx(wild.sum()), "what is wild has to be paid as well"
    assert fixed / per_media == pytest.approx(1.5 / 0.4, rel=0.35), "and does not bend the line"


@pytest.mark.parametrize(
    ("media", "seconds", "wanted"),
    [
        ([], [], (0.0, 0.0)),
        ([0.0, 0.0], [1.0, 3.0], (2.0, 0.0)),
        ([10.0], [5.0], (0.0, 0.5)),
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], (0.0, 0.0)),
        ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], (2.0, 0.0)),
    ],
)
def test_lines_without_a_line_in_them(media: list[float], seconds: list[float], wanted: tuple[float, float]) -> None:
    assert robust_line(np.array(media), np.array(seconds)) == pytest.approx(wanted)


def play(sources: list[tuple[float, int, float]], workers: int) -> float:
    first, pieces, each = zip(*sources, strict=True)
    return makespan(np.array(first), np.array(pieces), np.array(each), workers)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 5), st.floats(0, 20)), min_size=1, max_size=30), st.integers(1, 8))
def test_a_schedule_lies_within_grahams_bounds(sources: list[tuple[float, int, float]], workers: int) -> None:
    work = sum(first + pieces * each for first, pieces, each in sources)
    longest = max(first + (each if pieces else 0) for first, pieces, each in sources)
    found = play(sources, workers)
    assert max(work / workers, longest) <= found + 1e-6
    assert found <= work / workers + (1 - 1 / workers) * longest + 1e-6
    assert play(sources, 1) == pytest.approx(work)


def test_many_tasks_are_summed_up_and_not_played_through() -> None:
    sources = [(10.0, 20, 1.0)] * 20_000
    started = time.monotonic()
    found = play(sources, 64)
    assert time.monotonic() - started < 5
    assert found == pytest.approx(20_000 * 30 / 64, rel=0.01)


def test_clusters_are_read_and_mistakes_named(tmp_path: Path) -> None:
    two = load_cluster("8x16cpu64g@0.68spot+1x8cpu32g1gpu@0.53")
    assert [(node.count, node.cpus, node.memory, node.gpus, node.price_per_hour, node.spot) for node in two.nodes] == [
        (8, 16, 64, 0, 0.68, True),
        (1, 8, 32, 1, 0.53, False),
    ]
    assert two.price_per_hour == pytest.approx(8 * 0.68 + 0.53) and len(two.machines) == 9
    assert load_cluster("2x4cpu8g").price_per_hour is None
    file = tmp_path / "c.yaml"
    file.write_text("nodes:\n  - {count: 2, cpus: 16, memory: 64, name: big, price_per_hour: 1.0}\nstorage_gb_month: 0.02\n")
    prices = tmp_path / "p.json"
    prices.write_text('{"nodes": {"big": 0.5}, "egress_gb": 0.09, "currency": "USD"}')
    found = load_cluster(str(file), prices)
    assert (found.price_per_hour, found.storage_gb_month, found.egress_gb) == (1.0, 0.02, 0.09)
    assert load_cluster("local").local
    for text in ("8 machines", "0x16cpu64g", "2x0cpu4g", "99999x1cpu1g", ""):
        with pytest.raises(UsageError):
            load_cluster(text)
    bad = (
        *("nodes: []", "nodes: 3", "nodes: [{count: 1}]", "nodes: [{count: -1, cpus: 2}]", "- 1", "{", "a: 1"),
        *("nodes: [{count: 1, cpus: 2, wheels: 4}]", "nodes: [{count: 1.5, cpus: 2}]", "nodes: [{count: x, cpus: 2}]"),
        *("nodes: [{count: 1, cpus: 2}]\nstorage_gb_month: cheap", "!!python/object/apply:os.system ['true']"),
    )
    for text in bad:
        file.write_text(text)
        with pytest.raises(UsageError):
            load_cluster(str(file))


@dataclass(frozen=True)
class Load(Stage):
    """Takes the file a source names; costs what its fields say. `len-30` is 30 s long, `gone` is not there."""

    name: ClassVar[str] = "load"
    gives: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        if "gone" in clip.id:
            yield Drop(clip, DropReason.UNAVAILABLE, "expected a file, found none")
            return
        length = int(clip.id.split("-")[1])
        path = files.new(clip, Key.MEDIA, ".bin")
        path.write_bytes(b"x" * 1000 * length)
        yield replace(files.add(clip, (Key.MEDIA, path)), span=Span(Fraction(0), Fraction(length)))


@dataclass(frozen=True)
class Pieces(Stage):
    """Ten-second pieces."""

    name: ClassVar[str] = "pieces"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO})
    splits: ClassVar[bool] = True

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        for start in range(0, int(clip.span.duration), 10):
            piece = clip.child(Span(Fraction(start), Fraction(start + 10)))
            path = files.new(piece, Key.VIDEO)
            path.write_bytes(b"y" * 5000)
            yield files.add(piece, (Key.VIDEO, path))


@dataclass(frozen=True)
class Toil(Stage):
    """So many seconds an item and a second of media; drops every piece that begins at 10 s."""

    fixed_s: float = 0.02
    per_media_s: float = 0.004

    name: ClassVar[str] = "toil"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO})
    resources: ClassVar[Resources] = Resources(cpus=1.0)

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        time.sleep(self.fixed_s + self.per_media_s * float(clip.span.duration))
        if clip.span.start == 10:
            yield Drop(clip, DropReason.NO_FACE, "expected a face, found none")
        else:
            yield clip


CHAIN = Recipe(name="toil", about="", stages=(Load(), Pieces(), Toil()))


def build(out: Path, lengths: list[int], gone: int = 0, workers: int = 0) -> Store:
    out.mkdir(parents=True)
    names = [f"s{number}-{length}" for number, length in enumerate(lengths)] + [f"gone-{number}" for number in range(gone)]
    manifest = out / "m.csv"
    manifest.write_text("\n".join(["id,url,licence", *(f"{name},http://127.0.0.1/{name},own" for name in names)]) + "\n")
    run(CHAIN, manifest, str(out), RunOptions(workers=workers))
    return Store(out)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return build(tmp_path_factory.mktemp("plan") / "out", [20, 30, 40, 20, 60, 30, 50, 20], gone=2)


def ask(rates: Rates, lengths: list[float], cluster: Cluster = SMALL, **more: object) -> Prediction:
    return Planner(rates, CHAIN, cluster).predict(Question(lengths, **more))  # type: ignore[arg-type]


def test_the_measured_run_is_predicted_from_itself(measured: Store) -> None:
    rates = measure(measured)
    lengths = [20, 30, 40, 20, 60, 30, 50, 20]
    found = ask(rates, [*lengths, *[sum(lengths) / 8] * 2])
    stages = {stage.name: stage for stage in found.stages}
    assert stages["load"].items == pytest.approx(10) and stages["pieces"].items == pytest.approx(8)
    assert stages["toil"].items == pytest.approx(27) and stages["toil"].media_s == pytest.approx(270)
    assert found.kept == pytest.approx(19) and found.kept_s.value == pytest.approx(190)
    assert found.work_bytes.value == pytest.approx(270_000 + 27 * 5000)
    assert found.download_bytes == pytest.approx(270_000)
    spent = sum(sample.work["toil"][2] for sample in rates.samples if "toil" in sample.work)
    assert stages["toil"].work.value == pytest.approx(spent, rel=1e-3)
    # a remote store: everything is written once; pieces read all media, toil reads all pieces
    assert found.moved_bytes == pytest.approx(found.work_bytes.value + 270_000 + 27 * 5000, rel=0.01)


def test_rates_are_those_the_stage_has(measured: Store) -> None:
    """The sleeps are known; a loaded machine may add to them, so only the lower end is sharp."""
    toil = measure(measured).stage("toil")
    assert toil is not None and toil.items == 27
    assert 0.059 <= toil.fixed_s + 10 * toil.per_media_s < 0.3


def test_twice_as_much_takes_twice_as_long_and_costs_twice_as_much(measured: Store) -> None:
    rates = measure(measured)
    cluster = replace(SMALL, nodes=(Nodes(2, 4, 16.0, price_per_hour=3.0),), storage_gb_month=0.02, egress_gb=0.1)
    one, two = (ask(rates, [40.0] * count, cluster) for count in (2000, 4000))
    assert two.worker_s == pytest.approx(2 * one.worker_s)
    assert two.wall_s.value == pytest.approx(2 * one.wall_s.value, rel=0.05)
    assert one.compute_cost and two.compute_cost and one.storage_cost and two.storage_cost
    assert one.compute_cost.value == pytest.approx(one.wall_s.value / 3600 * 6)
    assert two.compute_cost.value == pytest.approx(2 * one.compute_cost.value, rel=0.05)
    assert two.storage_cost == pytest.approx(2 * one.storage_cost)
    assert ask(rates, [40.0] * 10).compute_cost is None, "without a price no money is named"
    bounds = one.wall_s
    assert bounds.low is not None and bounds.high is not None and bounds.low < bounds.value < bounds.high


def test_more_workers_help_until_the_longest_source_is_the_end(measured: Store) -> None:
    rates = measure(measured)
    many = [40.0] * 400
    slow, fast = (ask(rates, many, workers=count) for count in (1, 8))
    assert 6 < slow.wall_s.value / fast.wall_s.value <= 8.2
    uneven = ask(rates, [20.0] * 4 + [36_000.0], workers=50_000)
    assert "longest source" in uneven.bottleneck
    assert ask(rates, many, factors={"toil": 2.0}).stages[2].work.value == pytest.approx(slow.stages[2].work.value / 2)


def test_what_was_not_measured_is_said(measured: Store, tmp_path: Path) -> None:
    rates = measure(measured)
    with pytest.raises(UsageError, match="no rates of toil"):
        Planner(replace(rates, stages=rates.stages[:2]), CHAIN, SMALL)
    with pytest.raises(ResourceError, match="toil asks for 64 CPUs"):
        Planner(rates, replace(CHAIN, resources={"toil": Resources(cpus=64)}), SMALL)
    other = replace(CHAIN, stages=(Load(), Pieces(), Toil(fixed_s=9.0)))
    said = Planner(rates, other, SMALL).predict(Question([20.0])).assumptions
    assert any("other settings than the recipe's: toil" in line for line in said)
    assert any("times as long as the measured ones" in line for line in ask(rates, [7200.0]).assumptions)
    few = replace(rates, samples=rates.samples[:2])
    assert ask(few, [20.0]).wall_s.low is None
    with pytest.raises(UsageError, match="no output folder"):
        measure(Store(tmp_path))


def test_rates_survive_the_file_and_hold_no_names(measured: Store, tmp_path: Path) -> None:
    rates = measure(measured)
    file = tmp_path / "rates.json"
    file.write_text(rates.text())
    assert load_rates(file) == rates and load_rates(Path(measured.root)) == replace(rates)
    assert not any(name in rates.text() for name in ("s0-20", "gone-0", "127.0.0.1", str(measured)))
    good = json.loads(rates.text())
    for change in (
        {"schema": 99},
        {"stages": 3},
        {"samples": [{}]},
        {"shard_bytes_per_s": -1},
        {"shard_bytes_per_s": float("nan")},
    ):
        file.write_text(json.dumps({**good, **change}))
        with pytest.raises(UsageError):
            load_rates(file)
    for text in ("", "[1", "[]", "null"):
        file.write_text(text)
        with pytest.raises(UsageError):
            load_rates(file)
    with pytest.raises(UsageError, match="no rates file"):
        load_rates(tmp_path / "none.json")


def test_the_packaged_rates_are_of_the_demo_recipe() -> None:
    from dyconv import recipes

    rates = load_rates(None)
    recipe = recipes.load("demo")
    found = Planner(rates, recipe, SMALL).predict(Question([600.0] * 100))
    assert len(rates.samples) >= 8 and rates.notes and found.wall_s.low
    assert {stage.name for stage in rates.stages} == {stage.name for stage in recipe.stages}


def test_pools_are_those_of_a_run() -> None:
    gpu = replace(CHAIN, resources={"toil": Resources(cpus=1, gpus=1), "load": Resources(cpus=0.25)})
    cluster = Cluster((Nodes(2, 16), Nodes(1, 8, gpus=2)))
    pools = {tuple(sorted(pool.steps)): pool.most for pool in pools_of(gpu, cluster)}
    assert pools[(2,)] == 2 and sum(pools.values()) > 8
    (one,) = pools_of(CHAIN, replace(SMALL, local=True), 3)
    assert one.most == 3 and one.steps == frozenset({0, 1, 2})


def test_lengths_come_from_the_column_the_file_or_the_user(tmp_path: Path) -> None:
    make_media(tmp_path / "a.mp4", duration=1.0, size=(64, 36))
    manifest = tmp_path / "m.csv"
    head = "id,url,licence,x_duration_s"
    manifest.write_text(f"{head}\na,a.mp4,own,\nb,http://127.0.0.1/b.mp4,own,120.5\nbad id!,a.mp4,own,3\n")
    found = read_lengths(manifest)
    assert found.seconds == pytest.approx((1.0, 120.5), abs=0.2)
    assert (found.from_column, found.from_files, found.bad_rows) == (1, 1, 1)
    manifest.write_text(f"{head}\na,a.mp4,own,\nc,http://127.0.0.1/c.mp4,own,\n")
    with pytest.raises(UsageError, match=r"row 2 \(c\).*not known") as caught:
        read_lengths(manifest)
    assert "--mean-minutes" in str(caught.value)
    assert read_lengths(manifest, mean_minutes=2).seconds[1] == 120
    for bad in ("-1", "nan", "long", "1e30"):
        manifest.write_text(f"{head}\nc,http://127.0.0.1/c.mp4,own,{bad}\n")
        with pytest.raises(ManifestError, match="x_duration_s"):
            read_lengths(manifest)


def test_half_of_a_run_is_predicted_from_the_other(tmp_path: Path) -> None:
    store = build(tmp_path / "out", [20, 30, 40, 20, 60, 30, 50, 20, 40, 30, 20, 50])
    rows = {row.what: row for row in compare(store, recipe=CHAIN)}
    assert rows["work folder, bytes"].found > 0 and abs(rows["work folder, bytes"].error) < 0.15
    assert abs(rows["kept, seconds"].error) < 0.3
    assert abs(rows["toil, seconds"].error) < 0.5, "known sleeps on a machine that may be busy"
    toil = rows["toil, seconds"]
    assert toil.given is not None and 0.5 < toil.given / toil.found < 2, "what reached it is known: only the rate can be off"
    text = show(list(rows.values()))
    assert "toil, seconds" in text and "%" in text


def test_a_run_on_the_clock_is_predicted_from_another(tmp_path: Path) -> None:
    one = measure(build(tmp_path / "one", [20, 30, 40, 20, 60, 30], workers=2))
    other = build(tmp_path / "two", [30, 40, 20, 50, 20, 30, 60, 40], workers=2)
    (tmp_path / "rates.json").write_text(one.text())
    rows = {row.what: row for row in compare(other, tmp_path / "rates.json", CHAIN)}
    clock = rows["on the clock, seconds"]
    assert 0.4 < clock.predicted / clock.found < 2.0
    assert clock.predicted >= rows["all stages, seconds"].predicted / 2


def test_the_command_predicts_measures_and_checks(measured: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "own.py"
    recipe.write_text("from tests.test_plan import CHAIN as RECIPE\n")
    manifest = tmp_path / "m.csv"
    manifest.write_text("id,url,licence,x_duration_s\na,http://127.0.0.1/a,own,30\nb,http://127.0.0.1/b,own,90\n")
    assert command("plan", "measure", str(measured), "--to", str(tmp_path / "rates.json"), "--note", "here") == 0
    assert "toil" in capfd.readouterr().out
    argv = ["plan", "--manifest", str(manifest), "--recipe", str(recipe), "--rates", str(tmp_path / "rates.json")]
    argv += ["--cluster", "4x8cpu32g@1.5"]
    assert command(*argv) == 0
    said = capfd.readouterr().out
    for word in ("toil", "10,000 h", "200 h", "bottleneck", "assumed", "not priced"):
        assert word in said
    assert command(*argv, "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["manifest"]["sources"] == 2 and set(found["scales"]) == {"1", "200", "10000"}
    assert found["scales"]["10000"]["media_s"] == pytest.approx(3.6e7)
    assert found["scales"]["200"]["compute_cost"]["value"] > 0
    for extra in (["--factor", "toil=0"], ["--factor", "what=2"], ["--workers", "0"], ["--months", "-1"], ["--cluster", "x"]):
        with pytest.raises(UsageError):
            command(*argv, *extra)
    with pytest.raises(UsageError, match="--manifest is missing"):
        command("plan")


def test_samples_without_any_media_are_no_crash(tmp_path: Path) -> None:
    rates = measure(build(tmp_path / "out", [], gone=5))
    found = ask(rates, [60.0] * 3)
    assert found.kept_s.value == 0 and found.worker_s >= 0
    assert compare_rates(rates, rates, CHAIN)
