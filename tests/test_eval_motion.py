"""Motion features and their metrics: known answers, agreement with direct definitions, and the right way under corruption."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dyconv.arrays import save_arrays
from dyconv.errors import DyconvError, StoreError, UsageError
from training.evaluation.case import ALL, Case, View
from training.evaluation.entropy import Diversity, TruthRows, entropy_bits
from training.evaluation.evidence import Chunk, Evidence, Role, Shown
from training.evaluation.metric import Choice, Metric, Sums
from training.evaluation.motion import FileFeatures, MeshFeatures, family
from training.evaluation.motion_metrics import (
    ClipFrechet,
    Frechet,
    PairedClipFrechet,
    PairedFrechet,
    PooledResidualCorrelation,
    PooledVariance,
    ResidualCorrelation,
    SquaredError,
    Variance,
)

KEY = "motion.mesh.expression"
WIDTH = 5
FRAMES = 400


def moving(seed: int, frames: int = FRAMES, offset: float = 0.0) -> np.ndarray:
    """Smooth motion [T, 5], each column at its own pace and size."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((frames + 40, WIDTH))
    smooth = np.stack([np.convolve(steps[:, column], np.hanning(21), "valid") for column in range(WIDTH)], axis=1)
    return (smooth[:frames] * np.linspace(0.5, 2.0, WIDTH) + offset + np.arange(WIDTH)).astype(np.float32)


def evidence(
    truth: np.ndarray, made: np.ndarray, partner: np.ndarray | None = None, *, absent: slice = slice(0, 0), clip: str = "c"
) -> Evidence:
    """Coefficients as evidence; in frames `absent` the made face is not found and its coefficients are nonsense."""
    frames = len(truth)
    present, found = np.ones(frames, bool), np.ones(frames, bool)
    found[absent] = False
    made = made.copy()
    made[absent] = 1e6
    beside = {} if partner is None else {KEY: partner, "present": present}
    return Evidence(
        Case(clip, "p0", clip, View.INTERACTIVE, frames),
        {KEY: truth, "present": present},
        {KEY: made, "present": found},
        beside,
        {},
        {},
        np.zeros(frames, np.float32),
        np.zeros(frames, np.float32),
        {ALL: present},
    )


def followed(seed: int, frames: int = FRAMES) -> Evidence:
    """A person who does in part what the partner did 5 frames before, against themselves."""
    partner = moving(seed + 100, frames + 5)
    truth = (moving(seed, frames) + 0.8 * partner[:-5]).astype(np.float32)
    return evidence(truth, truth, partner[5:], clip=f"c{seed}")


def added(metric: Metric, cases: list[Evidence]) -> Sums:
    total: dict[str, np.ndarray] = {}
    for case in cases:
        for name, array in (metric.sums(case, case.slices[ALL]) or {}).items():
            total[name] = total.get(name, np.zeros(())) + array
    return total


def value(metric: Metric, *cases: Evidence) -> float:
    return metric.value(added(metric, list(cases)))


def sid(clusters: int, truths: list[Evidence]) -> Diversity:
    metric = Diversity(TruthRows("mesh", ["expression"]), "expression", clusters)
    metric.prepare(lambda: iter(truths))
    return metric


def plain() -> list[Metric]:
    kinds = (Frechet, PairedFrechet, ClipFrechet, PairedClipFrechet, SquaredError, ResidualCorrelation)
    return [kind("mesh", "expression") for kind in (*kinds, PooledResidualCorrelation)]


@pytest.mark.parametrize("metric", plain(), ids=lambda metric: metric.name)
def test_the_truth_against_itself_is_perfect(metric: Metric) -> None:
    assert value(metric, followed(1), followed(2)) == 0.0


def test_frechet_agrees_with_scipy() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    truth, made = [moving(seed) for seed in (1, 2)], [1.3 * moving(seed, offset=0.2) for seed in (3, 4)]
    one, other = np.concatenate(truth).astype(np.float64), np.concatenate(made).astype(np.float64)
    root = linalg.sqrtm(np.cov(one.T) @ np.cov(other.T)).real
    apart = one.mean(axis=0) - other.mean(axis=0)
    expected = apart @ apart + np.trace(np.cov(one.T) + np.cov(other.T) - 2 * root)
    cases = [evidence(*pair) for pair in zip(truth, made, strict=True)]
    assert value(Frechet("mesh", "expression"), *cases) == pytest.approx(expected, rel=1e-6)


def test_a_shift_of_all_frames_is_its_square() -> None:
    truth = moving(1)
    assert value(Frechet("mesh", "expression"), evidence(truth, truth + 0.5)) == pytest.approx(WIDTH * 0.25, rel=1e-4)
    assert value(SquaredError("mesh", "expression"), evidence(truth, truth + 0.5)) == pytest.approx(0.25, rel=1e-4)


def test_paired_frechet_agrees_with_a_direct_definition() -> None:
    from scipy.linalg import sqrtm

    cases = [evidence(followed(seed).truth[KEY], moving(seed + 50), followed(seed).partner[KEY]) for seed in (1, 2)]

    def direct(part: list[Evidence]) -> float:
        one, other = (
            np.concatenate([np.hstack([case.partner[KEY], getattr(case, who)[KEY]]) for case in part]).astype(np.float64)
            for who in ("truth", "made")
        )
        root = sqrtm(np.cov(one.T) @ np.cov(other.T)).real
        apart = one.mean(axis=0) - other.mean(axis=0)
        return float(apart @ apart + np.trace(np.cov(one.T) + np.cov(other.T) - 2 * root))

    assert value(PairedFrechet("mesh", "expression"), *cases) == pytest.approx(direct(cases), rel=1e-5)
    by_clip = np.mean([direct([case]) for case in cases])
    assert value(PairedClipFrechet("mesh", "expression"), *cases) == pytest.approx(by_clip, rel=1e-5)


def test_sid_agrees_with_a_direct_definition() -> None:
    from sklearn.cluster import KMeans

    truths = [followed(seed) for seed in (1, 2, 3)]
    cases = [evidence(case.truth[KEY], 0.7 * case.truth[KEY] + 0.3) for case in truths]
    rows = np.concatenate([case.truth[KEY] for case in truths])
    means = KMeans(15, random_state=0, n_init=1).fit(rows.astype(np.float64))
    share = np.bincount(means.predict(np.concatenate([case.made[KEY] for case in cases]).astype(np.float64)), minlength=15)
    share = share / share.sum()
    expected = -sum(p * np.log2(p) for p in share if p > 0)
    assert value(sid(15, truths), *cases) == pytest.approx(expected, rel=1e-4)


def test_sid_knows_its_ends() -> None:
    states = np.repeat(np.eye(8, WIDTH, dtype=np.float32) + np.arange(8, dtype=np.float32)[:, None], 10, axis=0)
    truths = [evidence(states, states)]
    assert value(sid(8, truths), *truths) == pytest.approx(3.0)
    still = evidence(states, np.repeat(states[:1], len(states), axis=0))
    assert value(sid(8, truths), still) == 0.0
    assert np.isnan(value(sid(9, truths), *truths))  # eight different rows have no nine means
    assert entropy_bits(np.array([2.0, 1.0, 1.0, 0.0])) == 1.5


def test_the_sample_of_truth_is_even_and_bounded() -> None:
    def replay() -> Iterator[Evidence]:
        for number in range(20):
            yield evidence(np.full((300, WIDTH), number, np.float32), np.zeros((300, WIDTH), np.float32))

    rows = TruthRows("mesh", ["expression"], most=500).of(replay, "expression")
    assert rows.shape == (500, WIDTH)
    assert rows[:, 0].mean() == pytest.approx(9.5, abs=1.0)


def test_variance_is_that_over_time() -> None:
    wave = np.sin(2 * np.pi * np.arange(400) / 40)[:, None] * np.arange(1, WIDTH + 1) + 7
    case = evidence(wave.astype(np.float32), wave.astype(np.float32))
    assert value(Variance("mesh", "expression"), case) == pytest.approx(np.mean(np.arange(1, 6) ** 2) / 2, rel=1e-4)
    still = evidence(wave.astype(np.float32), np.repeat(wave[:1], 400, axis=0).astype(np.float32))
    assert value(Variance("mesh", "expression"), still) == pytest.approx(0.0, abs=1e-9)


def test_the_pooled_numbers_are_those_of_all_numbers_together() -> None:
    truths = [followed(seed) for seed in (1, 2)]
    cases = [evidence(case.truth[KEY], moving(seed), case.partner[KEY]) for seed, case in enumerate(truths, 7)]
    flat = {
        who: np.concatenate([getattr(case, who)[KEY] for case in cases]).astype(np.float64).ravel()
        for who in ("truth", "made", "partner")
    }
    assert value(PooledVariance("mesh", "expression"), *cases) == pytest.approx(flat["made"].var(), rel=1e-4)
    expected = abs(np.corrcoef(flat["truth"], flat["partner"])[0, 1] - np.corrcoef(flat["made"], flat["partner"])[0, 1])
    assert value(PooledResidualCorrelation("mesh", "expression"), *cases) == pytest.approx(expected, rel=1e-4)


def test_residual_correlation_agrees_with_a_direct_definition() -> None:
    cases = [evidence(followed(seed).truth[KEY], moving(seed + 9), followed(seed).partner[KEY]) for seed in (1, 2)]
    expected = np.mean(
        [
            np.mean(
                [
                    abs(
                        np.corrcoef(case.truth[KEY][:, d], case.partner[KEY][:, d])[0, 1]
                        - np.corrcoef(case.made[KEY][:, d], case.partner[KEY][:, d])[0, 1]
                    )
                    for d in range(WIDTH)
                ]
            )
            for case in cases
        ]
    )
    assert value(ResidualCorrelation("mesh", "expression"), *cases) == pytest.approx(expected, rel=1e-4)


def shifted(case: Evidence, grade: float) -> np.ndarray:
    return np.roll(case.truth[KEY], round(20 * grade), axis=0)


def weaker(case: Evidence, grade: float) -> np.ndarray:
    middle = case.truth[KEY].mean(axis=0)
    return (middle + (1 - 0.9 * grade) * (case.truth[KEY] - middle)).astype(np.float32)


def frozen(case: Evidence, grade: float) -> np.ndarray:
    made = case.truth[KEY].copy()
    made[len(made) - round(grade * len(made)) :] = made[0]
    return made


@pytest.mark.parametrize(
    ("corrupt", "kind", "way"),
    [
        (shifted, SquaredError, "up"),
        (shifted, ResidualCorrelation, "up"),
        (shifted, PairedFrechet, "up"),
        (weaker, SquaredError, "up"),
        (weaker, Frechet, "up"),
        (weaker, Variance, "down"),
        (weaker, PooledVariance, "down"),
        (frozen, Variance, "down"),
        (frozen, Frechet, "up"),
        (frozen, ResidualCorrelation, "up"),
        (frozen, PairedFrechet, "up"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_corruption_moves_it_the_right_way(
    corrupt: Callable[[Evidence, float], np.ndarray], kind: type[Frechet], way: str
) -> None:
    truths = [followed(seed) for seed in range(4)]
    metric = kind("mesh", "expression")
    found = [
        value(metric, *(evidence(case.truth[KEY], corrupt(case, grade), case.partner[KEY]) for case in truths))
        for grade in (0.0, 0.3, 0.6, 1.0)
    ]
    steps = np.diff(found) if way == "up" else -np.diff(found)
    assert found[0] != found[-1] and (steps > 0).all(), found


def test_less_motion_visits_fewer_states() -> None:
    truths = [followed(seed) for seed in range(4)]
    metric = sid(15, truths)
    for corrupt in (weaker, frozen):
        cases = [[evidence(case.truth[KEY], corrupt(case, grade)) for case in truths] for grade in (0.0, 0.5, 1.0)]
        found = [value(metric, *each) for each in cases]
        assert found[0] > found[1] > found[2], found


def test_another_persons_motion_does_not_go_with_the_partner() -> None:
    truths = [followed(seed) for seed in range(4)]
    swapped = [
        evidence(case.truth[KEY], other.truth[KEY], case.partner[KEY])
        for case, other in zip(truths, [*truths[1:], truths[0]], strict=True)
    ]
    for kind in (ResidualCorrelation, PairedFrechet):
        assert value(kind("mesh", "expression"), *swapped) > 0.05
    assert value(Frechet("mesh", "expression"), *swapped) == pytest.approx(0.0, abs=1e-6)  # together they do the same


def test_frames_without_a_face_do_not_count() -> None:
    case, part = followed(3), slice(100, 180)
    kept = np.r_[0:100, 180:FRAMES]
    whole = evidence(case.truth[KEY], moving(9), case.partner[KEY], absent=part)
    cut = evidence(case.truth[KEY][kept], moving(9)[kept], case.partner[KEY][kept])
    for metric in (*plain(), Variance("mesh", "expression"), PooledVariance("mesh", "expression"), sid(10, [case])):
        assert value(metric, whole) == pytest.approx(value(metric, cut), rel=1e-9), metric.name


def test_what_cannot_be_measured_has_no_sums() -> None:
    alone = evidence(moving(1), moving(2))
    nobody = evidence(moving(1), moving(2), moving(3), absent=slice(0, FRAMES))
    for metric in (*plain(), Variance("mesh", "expression"), PooledVariance("mesh", "expression"), sid(10, [alone])):
        assert metric.sums(nobody, nobody.slices[ALL]) is None
        if metric.name.startswith(("pfd", "rpcc")):
            assert metric.sums(alone, alone.slices[ALL]) is None


def test_many_sums_at_once_have_the_values_of_each() -> None:
    cases = [evidence(followed(seed).truth[KEY], moving(seed + 9), followed(seed).partner[KEY]) for seed in (1, 2)]
    kinds = (SquaredError("mesh", "expression"), Variance("mesh", "expression"), ResidualCorrelation("mesh", "expression"))
    for metric in (*kinds, sid(10, cases)):
        parts = [metric.sums(case, case.slices[ALL]) or {} for case in cases]
        parts.append({name: np.zeros_like(array) for name, array in parts[0].items()})
        found = metric.values({name: np.stack([part[name] for part in parts]) for name in parts[0]})
        np.testing.assert_allclose(found, [metric.value(part) for part in parts])
        assert np.isnan(found[-1]) and not np.isnan(found[:2]).any()


def test_names_carry_what_must_agree() -> None:
    found = family(Choice(torch.device("cpu"), clusters=((40, 20), (15, 9))))
    names = {metric.name for metric in found.metrics}
    assert {"fd.mesh.expression", "pfd.mesh.pose", "mse.mesh.expression", "var.mesh.pose", "rpcc.mesh.expression"} <= names
    assert {name for name in names if name.startswith("sid")} == {
        *("sid.mesh.expression.k40", "sid.mesh.expression.k15", "sid.mesh.pose.k20", "sid.mesh.pose.k9")
    }
    needs = {name for metric in found.metrics for name in metric.needs}
    assert needs == {extractor.name for extractor in found.extractors}


def test_features_that_cannot_be_had_are_told() -> None:
    found = family(Choice(torch.device("cpu"), features=("infp",)))
    assert not found.metrics and {one.name for one in found.unavailable} >= {"fd.infp.motion", "sid.infp.motion.k40"}
    with pytest.raises(UsageError, match=r"mesh, infp, files, found `flame`"):
        family(Choice(torch.device("cpu"), features=("flame",)))
    with pytest.raises(UsageError, match="two folders"):
        family(Choice(torch.device("cpu"), features=("files",)))


def test_mesh_features_are_read_back_off_drawn_landmarks() -> None:
    from dyconv.models.mesh_motion import MeshMotion

    mesh = MeshMotion()
    latents = np.zeros((20, len(mesh.names)), np.float32)
    latents[:, :6] = [0.2, -0.1, 0.05, 0.02, -0.03, 0.45]
    latents[:, mesh.names.index("mouth_open")] = np.linspace(0, 0.2, 20)
    present = np.ones(20, bool)
    present[4] = False
    pictures = np.zeros((20, 64, 64, 3), np.uint8)
    reading = MeshFeatures().begin(Shown(Case("c", "p0", "u", View.VIDEO, 20), Role.MADE, 20, np.zeros(20 * 640, np.float32)))
    landmarks = mesh.pose(latents, 64)
    for part in (slice(0, 7), slice(7, 20)):
        reading.feed(Chunk(part.start, pictures[part], landmarks[part], present[part]))
    found = reading.finish()
    assert found["motion.mesh.expression"].shape == (20, 21) and found["motion.mesh.pose"].shape == (20, 6)
    units = np.array([*np.rad2deg([1.0, 1.0, 1.0]), 100.0, 100.0, 100.0])
    np.testing.assert_allclose(found["motion.mesh.pose"][present] / units, latents[present, :6], atol=0.012)
    np.testing.assert_allclose(found["motion.mesh.expression"][present, 0], np.linspace(0, 20, 20)[present], atol=1.2)
    assert not found["motion.mesh.pose"][4].any()


def test_latents_are_those_of_the_encoder_in_any_chunks() -> None:
    from dyconv.infp.config import STAGE1
    from dyconv.infp.stage1 import Stage1, encode_frames
    from dyconv.models.mesh_motion import MeshMotion

    torch.manual_seed(0)
    stage1 = Stage1(STAGE1["debug"]).eval()
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (12, 96, 96, 3), np.uint8)
    latents = np.zeros((12, len(MeshMotion().names)), np.float32)
    latents[:, 5], latents[:, 0] = 0.4, np.linspace(-0.3, 0.3, 12)
    landmarks, present = MeshMotion().pose(latents, 96), np.arange(12) != 7
    found = family(Choice(torch.device("cpu"), features=("infp",), stage1=stage1))
    assert {metric.name for metric in found.metrics} >= {"fd.infp.motion", "rpcc.infp.motion", "sid.infp.motion.k40"}
    assert not any("expression" in metric.name or "pose" in metric.name for metric in found.metrics)
    reading = found.extractors[0].begin(Shown(Case("c", "p0", "u", View.VIDEO, 12), Role.TRUTH, 12, np.zeros(7680, np.float32)))
    for part in (slice(0, 5), slice(5, 12)):
        reading.feed(Chunk(part.start, pictures[part], landmarks[part], present[part]))
    told = reading.finish()["motion.infp.motion"]
    expected = encode_frames(stage1.encoder, stage1.config.size, pictures, landmarks)
    np.testing.assert_allclose(told[present], expected[present], rtol=1e-4, atol=1e-5)
    assert not told[7].any() and stage1.encoder_hash[:16] in found.extractors[0].version


def files(folder: Path, name: str, **arrays: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    good = {"expression": np.ones((10, 4), np.float32), "pose": np.ones((10, 6), np.float32)}
    save_arrays(folder / name, {**good, **arrays})
    return folder / name


def test_coefficients_come_from_files_by_view(tmp_path: Path) -> None:
    truth, made = tmp_path / "truth", tmp_path / "made"
    files(truth, "c.p0.npz")
    files(made, "c.p0.npz", pose=np.full((10, 6), 2.0))
    files(made / "talking", "c.p0.npz", pose=np.full((10, 6), 3.0))
    features = FileFeatures(truth, made)

    def pose(view: View, role: Role) -> float:
        shown = Shown(Case("c", "p0", "u", view, 10), role, 10, np.zeros(6400, np.float32))
        return float(features.begin(shown).finish()["motion.files.pose"][0, 0])

    assert (pose(View.TALKING, Role.TRUTH), pose(View.TALKING, Role.MADE), pose(View.VIDEO, Role.MADE)) == (1.0, 3.0, 2.0)
    mine = files(made / "ours", "c.p0.npz", pose=np.full((10, 6), 4.0))

    def made_by(system: str) -> float:
        shown = Shown(Case("c", "p0", "u", View.VIDEO, 10), Role.MADE, 10, np.zeros(6400, np.float32), system=system)
        return float(features.begin(shown).finish()["motion.files.pose"][0, 0])

    assert (made_by("ours"), made_by("static")) == (4.0, 2.0)
    mine.unlink()
    with pytest.raises(UsageError, match="which were taken for static"):  # two systems never share coefficients
        made_by("ours")
    before = features.version
    files(made, "c.p0.npz", pose=np.full((10, 7), 2.0))
    assert FileFeatures(truth, made).version != before


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"pose": np.ones((9, 6), np.float32)}, r"expected `pose` as numbers \[10, D\], found float32 \[9, 6\]"),
        ({"pose": np.ones(10, np.float32)}, r"found float32 \[10\]"),
        ({"expression": np.full((10, 4), np.nan)}, "found NaN or infinity in frame 0"),
        ({"expression": np.full((10, 4), "x")}, "expected `expression` as numbers"),
    ],
)
def test_coefficients_that_do_not_fit_are_named(tmp_path: Path, arrays: dict[str, np.ndarray], told: str) -> None:
    path = files(tmp_path, "c.p0.npz", **arrays)
    shown = Shown(Case("c", "p0", "u", View.VIDEO, 10), Role.TRUTH, 10, np.zeros(6400, np.float32))
    with pytest.raises(UsageError, match=told) as caught:
        FileFeatures(tmp_path, tmp_path).begin(shown)
    assert str(path) in str(caught.value)


def test_missing_and_damaged_coefficients_are_named(tmp_path: Path) -> None:
    shown = Shown(Case("c", "p0", "u", View.VIDEO, 10), Role.TRUTH, 10, np.zeros(6400, np.float32))
    with pytest.raises(DyconvError, match="expected a folder of coefficients"):
        FileFeatures(tmp_path / "none", tmp_path)
    with pytest.raises(UsageError, match=r"c\.p0"):
        FileFeatures(tmp_path, tmp_path).begin(shown)
    (tmp_path / "c.p0.npz").write_bytes(b"not an npz")
    with pytest.raises(StoreError, match="not a readable npz"):
        FileFeatures(tmp_path, tmp_path).begin(shown)
    save_arrays(tmp_path / "c.p0.npz", {"pose": np.ones((10, 6))})
    with pytest.raises(UsageError, match="an array `expression`, found none"):
        FileFeatures(tmp_path, tmp_path).begin(shown)
    files(tmp_path, "c.p0.npz")
    files(tmp_path, "d.p0.npz", pose=np.ones((10, 3)))
    features = FileFeatures(tmp_path, tmp_path)
    features.begin(shown)
    other = Shown(Case("d", "p0", "u", View.VIDEO, 10), Role.TRUTH, 10, np.zeros(6400, np.float32))
    with pytest.raises(UsageError, match="expected 6 columns of `pose`"):
        features.begin(other)
