"""Composed conversations: what is in the media is what the truth says.

People and voices come from installed packages: the portraits of scikit-image and insightface, pyannote.audio's sample.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from fractions import Fraction
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from dyconv.errors import ModelMissing, UsageError
from dyconv.media.audio import read_audio
from dyconv.models.registry import load
from dyconv.synth import schedule, sound
from dyconv.synth.compose import OFF_SCREEN, Options, PersonInput, _shots, compose
from dyconv.synth.footage import read_footage, reel
from dyconv.synth.motion import mouth
from dyconv.synth.serve import serve
from dyconv.synth.sound import Stretch
from dyconv.time import SAMPLE_RATE
from dyconv.truth import Truth, read_truth

SMALL = {"width": 320, "height": 180}
OWN = {"a": ((10.95, 14.4), (18.65, 21.45)), "b": ((14.75, 17.9), (21.8, 27.8))}  # of the sample: one voice alone


def packaged(package: str, path: str) -> Path:
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / path


@pytest.fixture(scope="module")
def models() -> tuple:
    try:
        return load("mediapipe_face"), load("mediapipe_mesh")
    except ModelMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory, models: tuple) -> dict[str, PersonInput]:
    """Two photographs with one face each, and a recording of one voice for each."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("people")
    group = Image.open(packaged("insightface", "data/images/t1.jpg"))
    group.crop((0, 205, 262, 700)).save(folder / "b.png")
    Image.open(packaged("skimage", "data/astronaut.png")).save(folder / "a.png")
    speech, rate = soundfile.read(packaged("pyannote.audio", "sample/sample.wav"), dtype="float32")
    assert rate == SAMPLE_RATE
    for person, spans in OWN.items():
        parts = [speech[int(start * rate) : int(end * rate)] for start, end in spans]
        soundfile.write(folder / f"{person}.wav", np.concatenate(parts), rate)
    return {person: PersonInput(folder / f"{person}.png", folder / f"{person}.wav") for person in "ab"}


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory, people: dict[str, PersonInput]) -> tuple[Path, Truth]:
    """8 s of a two-shot with overlap and noise, its sound without loss."""
    out = tmp_path_factory.mktemp("talk")
    options = Options(overlap=0.2, background="pink", snr_db=12, width=640, height=360, duration=8, sound="flac", seed=3)
    return out, read_truth(compose(people["a"], people["b"], out, options))


def pictures(path: Path) -> list[tuple[Fraction, np.ndarray]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(frame.pts * stream.time_base, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]


def active(truth: Truth, person: str | None, samples: int) -> np.ndarray:
    out = np.zeros(samples, bool)
    for turn in truth.turns:
        if person is None or turn.person == person:
            out[round(turn.start * SAMPLE_RATE) : round(turn.end * SAMPLE_RATE)] = True
    return out


def power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples.astype(np.float64))))


def test_turns_are_where_the_voices_are(talk: tuple[Path, Truth]) -> None:
    out, truth = talk
    assert truth.duration == 8 and {turn.person for turn in truth.turns} == {"a", "b"}
    for person in truth.people:
        voice = read_audio(out / truth.voices[person])
        assert len(voice) == 8 * SAMPLE_RATE
        speaks = active(truth, person, len(voice))
        assert not voice[~speaks].any()
        for turn in truth.turns:
            if turn.person == person:
                said = voice[round(turn.start * SAMPLE_RATE) : round(turn.end * SAMPLE_RATE)]
                assert power(said) > 1e-5


def test_overlap_snr_and_mix_are_as_asked(talk: tuple[Path, Truth]) -> None:
    out, truth = talk
    mix = sound.read_sound(out / truth.media)
    voices = [read_audio(out / truth.voices[person]) for person in truth.people]
    assert len(mix) == len(voices[0])
    both, one = (np.sum([active(truth, person, len(mix)) for person in "ab"], axis=0) >= count for count in (2, 1))
    assert both.sum() / one.sum() == pytest.approx(0.2, abs=0.1)
    speech = voices[0] + voices[1]
    assert 10 * np.log10(power(speech[one]) / power((mix - speech)[one])) == pytest.approx(12, abs=1)


def test_mouths_open_with_their_own_voice_and_boxes_fit(talk: tuple[Path, Truth], models: tuple) -> None:
    out, truth = talk
    opening: dict[str, list[float]] = {"a": [], "b": []}
    shared = []
    frames = pictures(out / truth.media)
    assert len(frames) == 200
    for time, picture in frames:
        for face in truth.faces:
            box = np.array(face.box_at(float(time)))
            points, _ = models[1].landmarks(picture, box)
            found = np.concatenate([points[:, :2].min(0), points[:, :2].max(0)])
            low, high = np.maximum(found[:2], box[:2]), np.minimum(found[2:], box[2:])
            inside = np.prod(np.maximum(high - low, 0))
            shared.append(inside / (np.prod(found[2:] - found[:2]) + np.prod(box[2:] - box[:2]) - inside))
            eyes = np.linalg.norm(points[33, :2] - points[263, :2])
            opening[face.person].append(float(np.linalg.norm(points[13, :2] - points[14, :2]) / eyes))
    assert min(shared) > 0.75
    said = {person: mouth(read_audio(out / truth.voices[person]), Fraction(25), 200)[0] for person in "ab"}
    for person, partner in (("a", "b"), ("b", "a")):
        assert np.corrcoef(opening[person], said[person])[0, 1] > 0.6
        assert np.corrcoef(opening[person], said[partner])[0, 1] < 0.3


def test_cuts_are_where_the_picture_changes(tmp_path: Path, people: dict[str, PersonInput]) -> None:
    shots = ("two-shot", "a", "b", "pip")
    options = Options(layout="cuts", cuts=(0.99, 2.0, 2.5), shots=shots, duration=3.4, fps=Fraction(30000, 1001), **SMALL)
    truth = read_truth(compose(people["a"], people["b"], tmp_path, options))
    frames = pictures(tmp_path / truth.media)
    assert [abs(cut - wanted) <= 1 / 59 for cut, wanted in zip(truth.cuts, options.cuts, strict=True)] == [True] * 3
    change = [float(np.abs(a.astype(int) - b).mean()) for (_, a), (_, b) in pairwise(frames)]
    cut = [any(abs(float(time) - known) < 1e-4 for known in truth.cuts) for time, _ in frames[1:]]
    assert sum(cut) == 3
    assert min(value for value, is_cut in zip(change, cut, strict=True) if is_cut) > 10
    assert max(value for value, is_cut in zip(change, cut, strict=True) if not is_cut) < 3
    assert [(face.person, face.start) for face in truth.faces] == [
        ("a", 0.0), ("b", 0.0), ("a", truth.cuts[0]), ("b", truth.cuts[1]), ("a", truth.cuts[2]), ("b", truth.cuts[2]),
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, people: dict[str, PersonInput]) -> None:
    def files(name: str, seed: int) -> dict[str, bytes]:
        options = Options(layout="cuts", background="babble", seed=seed, duration=4, **SMALL)
        compose(people["a"], people["b"], tmp_path / name, options)
        return {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}

    one = files("one", 5)
    assert list(one) == ["a.wav", "b.wav", "conversation.mp4", "truth.json"]
    assert files("two", 5) == one
    other = files("three", 6)
    assert all(other[name] != one[name] for name in ("conversation.mp4", "truth.json"))


def test_drawn_cuts_are_all_to_be_seen() -> None:
    plan = [schedule.Placed("b", Stretch(0, 20 * SAMPLE_RATE), 0)]
    for seed in range(20):
        shots = _shots(plan, 1500, Options(layout="cuts", seed=seed))
        assert len(shots) > 5 and shots[0].start == 0 and shots[-1].stop == 1500
        assert all(one.stop == two.start and one.view != two.view for one, two in pairwise(shots))


@pytest.mark.parametrize("layout", ["side", "stacked", "pip"])
def test_layouts_keep_each_face_in_its_place(tmp_path: Path, people: dict[str, PersonInput], layout: str) -> None:
    options = Options(layout=layout, duration=3, off_screen=people["b"].voice, sound="pcm", **SMALL)
    truth = read_truth(compose(people["a"], people["b"], tmp_path, options))
    assert truth.layout == layout and truth.cuts == () and truth.people == ("a", "b")
    boxes = {face.person: np.array(face.boxes)[:, 1:] for face in truth.faces}
    assert sorted(boxes) == ["a", "b"]
    assert all(len(value) >= 3 and value.min() >= 0 and (value <= [320, 180, 320, 180]).all() for value in boxes.values())
    a, b = boxes["a"], boxes["b"]
    apart = {"side": a[:, 2].max() <= 160 <= b[:, 0].min(), "stacked": a[:, 3].max() <= 90 <= b[:, 1].min()}
    smaller = float(np.ptp(b[0, [0, 2]])) < 0.7 * float(np.ptp(a[0, [0, 2]]))
    assert apart[layout] if layout in apart else (smaller and b[:, 0].min() > a[:, 2].max())
    assert (tmp_path / "conversation.mov").is_file()


def test_an_off_screen_voice_is_heard_and_never_seen(tmp_path: Path, people: dict[str, PersonInput]) -> None:
    options = Options(duration=20, off_screen=people["a"].voice, fps=Fraction(5), width=160, height=90)
    truth = read_truth(compose(people["a"], people["b"], tmp_path, options))
    assert OFF_SCREEN in {turn.person for turn in truth.turns}
    assert OFF_SCREEN not in {face.person for face in truth.faces} and OFF_SCREEN not in truth.voices
    mix = sound.read_sound(tmp_path / truth.media)
    alone = active(truth, OFF_SCREEN, len(mix)) & ~active(truth, "a", len(mix)) & ~active(truth, "b", len(mix))
    assert alone.sum() > SAMPLE_RATE / 2 and power(mix[alone]) > 1e-5


def test_a_clip_speaks_with_its_own_picture(tmp_path: Path, people: dict[str, PersonInput], models: tuple) -> None:
    single = Options(layout="cuts", shots=("a",), duration=7, seed=2, sound="pcm", overlap=0, **SMALL)
    first = read_truth(compose(people["a"], people["b"], tmp_path / "single", single))
    clip = PersonInput(tmp_path / "single" / first.media, tmp_path / "single" / first.voices["a"])
    options = Options(layout="side", duration=6, seed=4, sound="flac", **SMALL)
    truth = read_truth(compose(clip, people["b"], tmp_path / "pair", options))
    opening = []
    for time, picture in pictures(tmp_path / "pair" / truth.media):
        face = next(face for face in truth.faces if face.person == "a")
        points, _ = models[1].landmarks(picture, np.array(face.box_at(float(time))))
        opening.append(float(np.linalg.norm(points[13, :2] - points[14, :2])))
    own, other = (mouth(read_audio(tmp_path / "pair" / f"{person}.wav"), Fraction(25), len(opening))[0] for person in "ab")
    assert np.corrcoef(opening, own)[0, 1] > 0.5
    assert np.corrcoef(opening, other)[0, 1] < 0.3


def test_a_clip_shows_frames_of_the_utterance_and_of_silence_between(
    tmp_path: Path, people: dict[str, PersonInput], models: tuple
) -> None:
    options = Options(layout="cuts", shots=("a",), duration=4, sound="pcm", **SMALL)
    truth = read_truth(compose(people["a"], people["b"], tmp_path, options))
    footage = read_footage(tmp_path / truth.media, Fraction(25), 180, *models)
    assert len(footage.frames) == 100 and footage.begin == 0
    speech = [Stretch(16_000, 32_000)]
    plan = [schedule.Placed("a", speech[0], 48_000)]
    shown = reel(plan, "a", speech, footage, Fraction(25), 150)
    assert shown.index[75:100].tolist() == list(range(25, 50))
    assert ((shown.index[:60] < 25) | (shown.index[:60] >= 50)).all()
    assert ((shown.index[115:] < 25) | (shown.index[115:] >= 50)).all()
    assert not shown.weight[75:100].any()


stretches = st.lists(st.integers(3_000, 60_000), min_size=1, max_size=8).map(
    lambda lengths: [Stretch(sum(lengths[:i]) + 8_000 * i, sum(lengths[: i + 1]) + 8_000 * i) for i in range(len(lengths))]
)


@settings(max_examples=15, deadline=None)
@given(stretches, stretches, st.sampled_from([0.0, 0.1, 0.3, 0.6]), st.integers(0, 99))
def test_nobody_speaks_over_himself(a: list[Stretch], b: list[Stretch], overlap: float, seed: int) -> None:
    samples = 20 * SAMPLE_RATE
    plan = schedule.plan({"a": a, "b": b}, samples, overlap, seed)
    assert plan and all(item.at >= 0 and item.end <= samples for item in plan)
    for person in "ab":
        own = sorted((item for item in plan if item.person == person), key=lambda item: item.at)
        assert all(before.end <= after.at for before, after in pairwise(own))
    assert schedule.plan({"a": a, "b": b}, samples, overlap, seed) == plan


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
def test_overlap_share_is_as_asked(overlap: float) -> None:
    rng = np.random.default_rng(1)

    def voice() -> list[Stretch]:
        lengths = rng.integers(8_000, 48_000, 12)
        begins = np.cumsum(lengths + rng.integers(5_000, 12_000, 12))
        return [Stretch(int(begin), int(begin + length)) for begin, length in zip(begins, lengths, strict=True)]

    samples = 30 * SAMPLE_RATE
    plan = schedule.plan({"a": voice(), "b": voice()}, samples, overlap, 0)
    assert schedule.overlap_share(plan, samples) == pytest.approx(overlap, abs=0.1)


def test_an_utterance_without_pauses_is_parted_where_it_is_quietest() -> None:
    time = np.arange(10 * 16_000) / 16_000
    level = np.where(abs(time - 4.2) < 0.1, 0.1, 1.0)  # a dip that is no pause
    voice = np.concatenate([0.2 * level * np.sin(2 * np.pi * 200 * time), np.zeros(16_000)]).astype(np.float32)
    pieces = sound.utterances(voice)
    assert pieces[0].stop == pieces[1].start and pieces[0].stop / 16_000 == pytest.approx(4.2, abs=0.15)
    assert all(1.2 * 16_000 <= len(piece) <= 6.1 * 16_000 for piece in pieces)
    assert sum(map(len, pieces)) / 16_000 == pytest.approx(10.0, abs=0.1)


@pytest.mark.parametrize("kind", sound.NOISES)
def test_noise_is_level_and_repeatable(kind: str) -> None:
    voice = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    one = sound.noise(kind, 32_000, [voice], 1)
    assert len(one) == 32_000 and power(one) == pytest.approx(1, rel=1e-3)
    assert np.array_equal(one, sound.noise(kind, 32_000, [voice], 1))
    assert not np.array_equal(one, sound.noise(kind, 32_000, [voice], 2))


def test_bad_input_is_named(tmp_path: Path, people: dict[str, PersonInput]) -> None:
    from PIL import Image

    grey = tmp_path / "grey.png"
    Image.fromarray(np.full((200, 200, 3), 120, np.uint8)).save(grey)
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    empty, silent = tmp_path / "empty.wav", tmp_path / "silent.wav"
    soundfile.write(empty, np.zeros(0, np.float32), SAMPLE_RATE)
    soundfile.write(silent, np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE)
    a, b = people["a"], people["b"]
    group = packaged("insightface", "data/images/t1.jpg")
    cases = [
        (PersonInput(tmp_path / "no.png", a.voice), "no such file"),
        (PersonInput(a.picture, tmp_path / "no.wav"), "no such file"),
        (PersonInput(a.picture), "needs a voice"),
        (PersonInput(grey, a.voice), "no face found"),
        (PersonInput(group, a.voice), "faces found"),
        (PersonInput(text, a.voice), "neither a picture nor a video"),
        (PersonInput(a.picture, empty), "zero length|not readable"),
        (PersonInput(a.picture, silent), "silent"),
        (PersonInput(a.picture, a.picture), "not readable|no sound"),
    ]
    for person, message in cases:
        with pytest.raises(UsageError, match=message):
            compose(person, b, tmp_path / "out", Options(duration=2, **SMALL))
    assert not (tmp_path / "out" / "truth.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "gallery"}, "no layout"),
        ({"layout": "side", "cuts": (1.0,)}, "go with the layout cuts"),
        ({"layout": "cuts", "cuts": (1.0,), "shots": ("a",)}, "2 shots, found 1"),
        ({"layout": "cuts", "shots": ("c",)}, "no shot"),
        ({"layout": "cuts", "cuts": (1.0,), "shots": ("a", "a")}, "no cut would be seen"),
        ({"overlap": 1.5}, "share from 0 to 1"),
        ({"snr_db": float("nan")}, "dB"),
        ({"width": 321}, "even"),
        ({"fps": Fraction(0)}, "frame rate"),
        ({"duration": 0.0}, "duration"),
        ({"sound": "mp3"}, "sound format"),
    ],
)
def test_options_that_cannot_be(change: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Options(**change).check()


def test_command_says_what_is_wrong_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from dyconv.cli import main

    command = ["dyconv", "synth", "--out", str(tmp_path), "--a", "x.png", "--b", "y.png", "--size", "big"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "a size is width x height such as 1280x720, found 'big'" in capsys.readouterr().err


def test_server_gives_ranges_and_nothing_outside(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "film.mp4").write_bytes(data)
    (tmp_path / "secret.txt").write_text("no")
    (tmp_path / "in" / "link.txt").symlink_to(tmp_path / "secret.txt")

    def get(url: str, wanted: str | None = None) -> tuple[int, bytes, str | None]:
        request = urllib.request.Request(url, headers={"Range": wanted} if wanted else {})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read(), answer.headers["Content-Range"]

    with serve(tmp_path / "in") as base:
        assert base.startswith("http://127.0.0.1:")
        film = f"{base}/film.mp4"
        assert get(film) == (200, data, None)
        assert get(film, "bytes=10-19") == (206, data[10:20], "bytes 10-19/2560")
        assert get(film, "bytes=2550-") == (206, data[2550:], "bytes 2550-2559/2560")
        assert get(film, "bytes=-5") == (206, data[-5:], "bytes 2555-2559/2560")
        for path, code in (
            ("nothing.mp4", 404),
            ("", 404),
            ("../secret.txt", 404),
            ("%2e%2e/secret.txt", 404),
            ("link.txt", 404),
        ):
            with pytest.raises(urllib.error.HTTPError) as caught:
                get(f"{base}/{path}")
            assert caught.value.code == code
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(film, "bytes=9999-")
        assert caught.value.code == 416
    with pytest.raises(urllib.error.URLError):
        get(film)


def test_demo_truth_is_the_reference_annotation(models: tuple) -> None:
    from pipelines import make_demo

    conversation = make_demo.conversation()
    rttm = packaged("pyannote.audio", "sample/sample.rttm").read_text()
    rows = [line.split() for line in rttm.splitlines()]
    spoken = {"speaker90": "a", "speaker91": "b"}
    assert [(turn.person, round(turn.start, 3), round(turn.end - turn.start, 3)) for turn in conversation.turns] == [
        (spoken[row[7]], float(row[3]), float(row[4])) for row in rows
    ]
    assert conversation.frames == 750 and len(conversation.mix) == 750 * 640 and not conversation.voices
    assert conversation.shots[0].start == 0 and len(conversation.shots) == 7
    assert all(before.stop == after.start for before, after in pairwise(conversation.shots))
    seen = {person for shot in conversation.shots for person in "ab" if shot.view in (person, "two-shot")}
    assert seen == {"a", "b"}
