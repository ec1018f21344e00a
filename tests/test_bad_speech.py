"""Speech that is hard or wrong, through the real chain: each source ends for the right reason, never with voices swapped.

All sources go through one run of the `demo` recipe as far as the voices. What is said of each is held against its truth.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dyconv.ledger import read_ledger
from dyconv.models import registry
from dyconv.records import Clip, Drop
from dyconv.runner import RunOptions, run
from dyconv.score import outcomes, score
from dyconv.store import Store
from dyconv.truth import read_truth
from pipelines.quality.building import quality_recipe
from pipelines.quality.identities import real_data as real_data_folder
from pipelines.quality.measuring import measure
from tests.talk_scenes import SHIFTS_MS, Scene, Studio

pytestmark = pytest.mark.timeout(900)  # the first test waits for the one run that all look at

KEPT = None
DOUBT = ("NOT_DYADIC", "ATTRIBUTION_UNSURE")
# How each may end. "Kept" always means with at most WRONG of the speech given to the wrong person, and no swap.
ENDS: dict[str, tuple[str | None, ...]] = {
    "good": (KEPT,),
    "three": ("NOT_DYADIC", "FACES_NOT_TWO"),
    "narrator": (KEPT, *DOUBT),
    "laughter": (KEPT,),
    "crosstalk": (KEPT, *DOUBT, "SEPARATION_POOR"),
    "loud-music": (KEPT, *DOUBT),
    "clipped": (KEPT,),
    "dubbed": (KEPT, *DOUBT, "OUT_OF_SYNC"),
    "late-40": (KEPT, *DOUBT),
    "late-80": (KEPT, *DOUBT, "OUT_OF_SYNC"),
    "late-200": (KEPT, *DOUBT, "OUT_OF_SYNC"),
    "one-silent": ("NOT_DYADIC",),
    "twins": (KEPT, *DOUBT, "FACES_NOT_TWO"),
    "stereo": (KEPT,),
    "narrow": (KEPT,),
}
REAL_ENDS = {"real-good": (KEPT,), **{f"real-late-{shift}": (KEPT, "ATTRIBUTION_UNSURE", "OUT_OF_SYNC") for shift in SHIFTS_MS}}
WRONG = 0.08


@dataclass(frozen=True)
class Ended:
    """What became of one source."""

    reason: str | None
    detail: str
    score: dict[str, Any]
    people: list[Clip]
    separated: list[Clip]
    measures: dict[str, Any]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    recipe = quality_recipe()
    for stage in recipe.stages:
        for model in stage.models():
            if registry.missing(registry.get(model)):
                pytest.skip(f"no weights of {model}: dyconv models pull --all-default")
    folder = tmp_path_factory.mktemp("bad-speech")
    real = real_data_folder()
    studio = Studio(folder, real)
    scenes = {name: studio.make(name) for name in [*ENDS, *(REAL_ENDS if real else ())]}
    rows = [{"id": name, "url": str(scene.media), "licence": "demo-local"} for name, scene in scenes.items()]
    manifest = folder / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(recipe, manifest, str(folder / "out"), RunOptions(workers=2, pack=False))
    yield {name: _ended(Store(folder / "out"), name, scene) for name, scene in scenes.items()}


def _ended(store: Store, name: str, scene: Scene) -> Ended:
    log = read_ledger(store)[name]
    found = measure(store, scene.truth, name)
    reached = list(outcomes(store, log, "people"))
    measures: dict[str, Any] = {}
    for outcome in reached:
        measures |= (outcome.clip if isinstance(outcome, Drop) else outcome).measures
    passed = [clip for clip in reached if isinstance(clip, Clip)]
    separated = [clip for clip in outcomes(store, log, "separate") if isinstance(clip, Clip)]
    return Ended(
        found.reason, found.end, score(store, read_truth(scene.truth), scene.truth.parent, name), passed, separated, measures
    )


@pytest.mark.parametrize("name", [*ENDS, *REAL_ENDS])
def test_it_ends_for_the_right_reason_and_with_nobody_swapped(ended: dict[str, Ended], name: str) -> None:
    if name not in ended:
        pytest.skip("no real media: set DYCONV_REAL_DATA")
    found = ended[name]
    assert found.reason in {**ENDS, **REAL_ENDS}[name], found.detail
    if found.people:
        assert (found.score["speaker_confusion"] or 0.0) <= WRONG
        assert not found.score["speaker_swaps"]


def test_a_voice_off_screen_is_given_to_neither(ended: dict[str, Ended]) -> None:
    for clip in ended["narrator"].people:
        assert any(turn.person is None for turn in clip.turns)


def test_a_dub_fits_the_lips_less_surely_than_the_original(ended: dict[str, Ended]) -> None:
    original, dub = (ended[name].measures["people.sync_confidence"] for name in ("good", "dubbed"))
    assert dub is None or dub < original


def test_one_person_a_side_is_taken_as_it_is(ended: dict[str, Ended]) -> None:
    assert ended["stereo"].measures["people.channels"] in ("p0=0,p1=1", "p0=1,p1=0")
    for clip in ended["stereo"].separated:
        for person in ("p0", "p1"):
            assert str(clip.measures[f"{person}.voice_method"]).startswith("channel")


@pytest.mark.parametrize("shift_ms", SHIFTS_MS)
def test_a_shift_is_found_within_a_frame(ended: dict[str, Ended], shift_ms: int) -> None:
    if "real-good" not in ended:
        pytest.skip("no real media: set DYCONV_REAL_DATA")
    before, after = (ended[name].measures["people.av_offset_frames"] for name in ("real-good", f"real-late-{shift_ms}"))
    assert after - before == pytest.approx(shift_ms / 40, abs=1.0)
