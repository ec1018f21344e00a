"""`dyconv show`: one picture of whatever a build knows of a clip, and a clear word where it knows nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from dyconv.cli.show import show
from dyconv.errors import UsageError
from dyconv.faces import FaceArrays
from dyconv.records import Key
from dyconv.report.find import find
from dyconv.report.look import PERSON_COLOURS
from dyconv.report.picture import WIDTH_PX, draw_clip
from dyconv.report.view import envelope, mouth_opening
from dyconv.store import Store
from tests.small_build import face_points, small_build

KEPT = "talk_00000000_00002000"
DROPPED = "talk_00002000_00004000"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return small_build(tmp_path_factory.mktemp("build"))


def pixels_like(picture: np.ndarray, colour: str) -> int:
    """How many pixels have nearly this colour."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return int((np.abs(picture[..., :3] - wanted).max(-1) < 0.03).sum())


def drawn(store: Store, wanted: str, target: Path) -> np.ndarray:
    draw_clip(find(store, wanted), target)
    picture = imread(target)
    assert picture.shape[1] == WIDTH_PX
    return picture


def test_a_kept_clip_shows_both_people_in_their_colours(store: Store, tmp_path: Path) -> None:
    picture = drawn(store, KEPT, tmp_path / "kept.png")
    assert all(pixels_like(picture, colour) > 500 for colour in PERSON_COLOURS.values())


def test_a_dropped_segment_shows_its_frames_without_people(store: Store, tmp_path: Path) -> None:
    view = find(store, DROPPED)
    assert (view.state, view.stage) == ("dropped", "people")
    assert view.reason is not None
    assert view.reason.startswith("NOT_DYADIC: expected two people")
    picture = drawn(store, DROPPED, tmp_path / "dropped.png")
    skin = pixels_like(picture, "#c8a078")
    assert skin > 1000, "the frames of the video are in the picture"
    assert picture.shape[0] < drawn(store, KEPT, tmp_path / "kept.png").shape[0]


def test_a_source_stands_for_its_first_segment(store: Store) -> None:
    assert find(store, "talk").clip.id == KEPT
    assert find(store, "talk").clip.people


@pytest.mark.parametrize(("wanted", "state", "word"), [("gone", "dropped", "404"), ("broken", "failed", "RuntimeError")])
def test_a_source_that_never_came_still_gets_a_picture(
    store: Store, tmp_path: Path, wanted: str, state: str, word: str
) -> None:
    view = find(store, wanted)
    assert view.state == state
    assert word in str(view.reason)
    drawn(store, wanted, tmp_path / "nothing.png")


def test_an_unknown_id_names_what_is_like_it(store: Store) -> None:
    with pytest.raises(UsageError, match="talk_00000000_00002000"):
        find(store, "talk_00000000_0000200")


def test_damaged_and_missing_assets_are_said_and_the_rest_is_drawn(tmp_path: Path) -> None:
    store = small_build(tmp_path / "build")
    view = find(store, KEPT)
    store.local(view.clip.assets[Key.MIX].path).write_bytes(b"no sound")
    store.local(view.clip.assets[Key.SPEECH].path).write_bytes(b"PK no zip")
    draw_clip(view, tmp_path / "damaged.png")
    assert {note.split(":")[0] for note in view.notes} == {"mix.flac", "speech.npz"}
    assert pixels_like(imread(tmp_path / "damaged.png"), "#c8a078") > 1000


def test_the_command_saves_into_the_build_and_says_where(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    show(KEPT, out=store.root)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{KEPT}: kept"
    assert Path(said[1]).read_bytes().startswith(b"\x89PNG")


def test_mouth_opening_is_the_lip_gap_over_the_eye_distance() -> None:
    points = face_points(np.array([50.0, 50.0]))[None]
    frames, opening = mouth_opening(FaceArrays(np.array([7]), np.zeros((1, 4)), np.ones(1), points))
    assert frames.tolist() == [7]
    assert opening == pytest.approx([3 / 20])


def test_envelope_keeps_the_peaks() -> None:
    samples = np.zeros(1000, np.float32)
    samples[500], samples[501] = 0.9, -0.8
    low, high = envelope(samples, 10)
    assert high[5] == pytest.approx(0.9)
    assert low[5] == pytest.approx(-0.8)
    assert np.count_nonzero(high) == 1
