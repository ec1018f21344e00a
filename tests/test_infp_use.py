"""Using INFP: portraits, drivers and voices to marked films; live and offline alike; the pipeline's motion encoder."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from typer.testing import CliRunner

from dyconv.arrays import load_arrays
from dyconv.cli import build, guarded
from dyconv.errors import ModelMissing, StoreError, UsageError
from dyconv.infp import Agent
from dyconv.infp.agent import Subject
from dyconv.infp.config import STAGE1, STAGE2
from dyconv.infp.film import SOUND_PER_FRAME, Film
from dyconv.infp.mark import SOURCE_TYPE, read_mark
from dyconv.infp.portraits import FaceModels, find_portrait
from dyconv.infp.stage1 import Stage1, load_stage1, save_stage1
from dyconv.infp.stage2 import Stage2
from dyconv.infp.voices import blocks, open_voice
from dyconv.infp.weights import in_folder
from dyconv.media.audio import write_audio
from dyconv.media.sound import read_sound
from dyconv.media.video import VideoWriter
from dyconv.models import registry
from dyconv.models.infp_motion import BATCH, InfpMotion
from dyconv.models.slots import MotionEncoder
from dyconv.records import Clip, Key
from dyconv.stages.encode_motion import EncodeMotion
from dyconv.time import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, Span

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parent.parent
SIZE = STAGE1["debug"].size
FRAMES = 30


def astronaut() -> np.ndarray:
    from skimage import data

    return np.asarray(data.astronaut())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an agent whose networks learnt nothing."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_stage1(Stage1(STAGE1["debug"]), folder / "stage1.safetensors")
    config = replace(STAGE2["debug"], width=32, sample_steps=2, window=25)
    Stage2(config, encoder_hash=load_stage1(folder / "stage1.safetensors").encoder_hash).save(folder / "stage2.safetensors")
    return folder


@pytest.fixture(scope="module")
def agent(weights: Path, face_models: FaceModels) -> Agent:
    agent = Agent.load(weights, device="cpu")
    agent._models = face_models
    return agent


@pytest.fixture(scope="module")
def subject(agent: Agent) -> Subject:
    return agent.portrait(astronaut())


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory, face_models: FaceModels) -> Path:
    """A portrait, a driver with sound, and two voices of different lengths."""
    import cv2

    folder = tmp_path_factory.mktemp("media")
    Image.fromarray(astronaut()).save(folder / "face.png")
    with VideoWriter(folder / "silent.mp4", 320, 320) as writer:
        for index in range(FRAMES):
            turn = cv2.getRotationMatrix2D((225, 124), 8 * np.sin(index / 5), 1.0)
            turn[:, 2] += (-65 + 4 * np.sin(index / 3), 10)
            writer.write(cv2.warpAffine(astronaut(), turn, (320, 320)))
    rng = np.random.default_rng(0)
    voices = {
        name: (rng.standard_normal(length) * 0.1).astype(np.float32) for name, length in (("own", 30_000), ("partner", 41_000))
    }
    for name, samples in voices.items():
        write_audio(folder / f"{name}.wav", samples)
    under(folder / "silent.mp4", folder / "driver.mp4", voices["partner"])
    return folder


def under(silent: Path, target: Path, samples: np.ndarray) -> None:
    """The same pictures with sound that starts 0.2 s after them and goes on behind their end."""
    with av.open(str(silent)) as source, av.open(str(target), "w") as made:
        seen = source.streams.video[0]
        video = made.add_stream_from_template(seen)
        sound: Any = made.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for packet in source.demux(seen):
            if packet.dts is not None:
                packet.stream = video
                made.mux(packet)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, SAMPLE_RATE // 5, Fraction(1, SAMPLE_RATE)
        made.mux(sound.encode(frame))
        made.mux(sound.encode(None))


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str]:
    """Exit code and standard error of a command, as a shell sees them."""
    monkeypatch.setattr(sys, "argv", ["dyconv", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        guarded(build())
    return int(left.value.code or 0), capsys.readouterr().err


def watched(path: Path) -> tuple[np.ndarray, np.ndarray | None, dict[str, str]]:
    """Frames uint8 [T, S, S, 3], sound [C, N] at its presentation times, and metadata, as a player has them."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert video.average_rate == FPS
        decoded = list(container.decode(video))
        assert [frame.pts * video.time_base for frame in decoded] == [Fraction(index, FPS) for index in range(len(decoded))]
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])
        metadata = dict(container.metadata)
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return frames, None, metadata
        track = container.streams.audio[0]
        assert track.duration * track.time_base == Fraction(len(frames), FPS), "the sound is as long as the frames"
        parts = [frame.to_ndarray() for frame in container.decode(track)]
    return frames, np.concatenate(parts, axis=1), metadata


# the mark


def test_a_film_says_in_its_metadata_that_it_is_synthetic(tmp_path: Path) -> None:
    with Film(tmp_path / "film.mp4", 64, channels=2) as film:
        for index in range(5):
            film.write(np.full((64, 64, 3), 40 * index, np.uint8), np.zeros((2, SOUND_PER_FRAME), np.float32))
    mark = read_mark(tmp_path / "film.mp4")
    assert mark is not None and mark.source_type == SOURCE_TYPE and "dyconv" in mark.tool
    frames, sound, metadata = watched(tmp_path / "film.mp4")
    assert len(frames) == 5 and sound is not None and len(sound) == 2
    assert np.abs(frames.reshape(5, -1).mean(axis=1) - 40 * np.arange(5)).max() < 3
    assert "AI-generated" in metadata["comment"] and SOURCE_TYPE in metadata["comment"]
    raw = (tmp_path / "film.mp4").read_bytes()  # and by none of the code that wrote it
    at = raw.index(bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC"))
    assert raw[at - 4 : at] == b"uuid" and int.from_bytes(raw[at - 8 : at - 4], "big") == len(raw) - at + 8
    node = ElementTree.fromstring(raw[raw.index(b"<x:xmpmeta", at) : raw.index(b"</x:xmpmeta>") + 12])[0][0]
    assert node.attrib["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"].endswith("/trainedAlgorithmicMedia")


def test_what_was_not_generated_bears_no_mark(media: Path, tmp_path: Path) -> None:
    assert read_mark(media / "driver.mp4") is None
    (tmp_path / "text.mp4").write_bytes(b"no film at all, just words")
    with pytest.raises(StoreError, match="not an mp4"):
        read_mark(tmp_path / "text.mp4")


def test_a_packet_with_a_document_type_is_refused(tmp_path: Path) -> None:
    body = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC") + b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'
    head = (16).to_bytes(4, "big") + b"ftypisom\0\0\0\0"
    (tmp_path / "x.mp4").write_bytes(head + (len(body) + 8).to_bytes(4, "big") + b"uuid" + body)
    with pytest.raises(StoreError, match="document type"):
        read_mark(tmp_path / "x.mp4")


def test_an_unfinished_film_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Film(tmp_path / "film.mp4", 64) as film:
        film.write(np.zeros((64, 64, 3), np.uint8))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_nothing_else_in_the_package_writes_generated_video() -> None:
    places = [
        *(ROOT / "dyconv" / "infp").glob("*.py"),
        *(ROOT / "dyconv" / "cli").glob("*.py"),
        *(ROOT / "training" / "infp").glob("*.py"),
    ]
    writers = {path.name for path in places if _writes_video(ast.parse(path.read_text()))}
    assert writers - {"prepare.py"} == {"film.py"}  # the one that is let off cuts out real faces to learn from


def _writes_video(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = [
                value.value
                for value in (*node.args, *(word.value for word in node.keywords))
                if isinstance(value, ast.Constant)
            ]
            if called.endswith(("VideoWriter", "write_video", "mimsave", "mimwrite")) or (called == "av.open" and "w" in given):
                return True
    return False


def test_the_mark_cannot_be_turned_off() -> None:
    for command in ("animate", "talk"):
        told = CliRunner().invoke(build(), [command, "--help"]).output
        assert "synthetic" in told and "--no-mark" not in told and "--mark" not in told


# portraits


def test_a_portrait_is_cut_as_the_pipeline_cuts(face_models: FaceModels) -> None:
    from dyconv.faces import face_box
    from dyconv.stages.crop import window

    found = find_portrait(astronaut(), face_models).cut(128)
    assert found.image.shape == (128, 128, 3) and (found.face, found.faces) == (1, 1)
    scale = (found.box[2] - found.box[0]) / 128
    photo = found.landmarks.copy()
    photo[:, :2] = photo[:, :2] * scale + found.box[:2]
    assert np.array_equal(window(face_box(photo)[None], 1.5, 0.0), found.box)
    assert 195 < photo[468:, 0].mean() < 255 and 90 < photo[468:, 1].mean() < 125  # her eyes


def test_a_portrait_is_laid_as_its_drivers_face_lies(face_models: FaceModels) -> None:
    found = find_portrait(astronaut(), face_models)
    plain = found.cut(128)
    like = plain.landmarks * np.float32(0.7) + np.array([30, 12, 0], np.float32)
    laid = found.cut(128, like)
    assert np.abs(laid.landmarks - like)[:, :2].max() < 1.5  # the window's edges are at even pixels of the photograph
    assert np.array_equal(found.cut(128, laid.landmarks).box, laid.box)


def test_drawings_with_a_face_are_portraits(face_models: FaceModels, tmp_path: Path) -> None:
    import cv2

    photo = np.ascontiguousarray(astronaut()[:300, 90:360, ::-1])
    grey, coloured = cv2.pencilSketch(photo, sigma_s=60, sigma_r=0.07, shade_factor=0.05)
    mesh = find_portrait(astronaut()[:300, 90:360], face_models).landmarks
    for drawing in (cv2.stylization(photo), coloured, cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)):
        drawn = find_portrait(np.ascontiguousarray(drawing[..., ::-1]), face_models).landmarks
        assert np.linalg.norm((drawn - mesh)[:468, :2], axis=1).mean() < 0.08 * np.ptp(mesh[:468, 0])
    solid = Image.fromarray(photo[..., ::-1]).convert("RGBA")
    solid.putalpha(Image.fromarray(np.where(np.arange(300)[:, None] < 250, 255, 0).astype(np.uint8).repeat(270, axis=1)))
    solid.save(tmp_path / "cut-out.png")
    assert (find_portrait(tmp_path / "cut-out.png", face_models).picture[260] == 255).all()


def test_a_turned_photograph_is_turned_back(face_models: FaceModels, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me by 90 degrees to the right"
    Image.fromarray(np.rot90(astronaut())).save(tmp_path / "turned.png", exif=exif)
    turned, upright = (find_portrait(picture, face_models).cut(64) for picture in (tmp_path / "turned.png", astronaut()))
    assert np.array_equal(turned.image, upright.image)


def test_the_largest_face_is_taken_or_the_one_asked_for(face_models: FaceModels, tmp_path: Path) -> None:
    import cv2

    both = np.full((400, 700, 3), 127, np.uint8)
    head = astronaut()[:300, 90:360]
    both[50:350, 400:670] = head
    both[100:280, 60:222] = cv2.resize(head, (162, 180), interpolation=cv2.INTER_AREA)
    Image.fromarray(both).save(tmp_path / "both.webp", lossless=True)
    largest, left = (find_portrait(tmp_path / "both.webp", face_models, face=face).cut(64) for face in (None, 1))
    assert (largest.face, largest.faces, left.face) == (2, 2, 1)
    assert largest.box[0] > 350 and left.box[2] < 300
    with pytest.raises(UsageError, match=r"expected face 3 .* found 2"):
        find_portrait(tmp_path / "both.webp", face_models, face=3)


def test_a_picture_without_a_face_is_refused(face_models: FaceModels, tmp_path: Path) -> None:
    Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (200, 1))).save(tmp_path / "wall.jpg")
    with pytest.raises(UsageError, match=r"expected a face in .*wall.jpg, found none") as caught:
        find_portrait(tmp_path / "wall.jpg", face_models)
    assert caught.value.hint and caught.value.exit_code == 2


# sound


def test_sound_goes_block_by_block_with_the_frames(media: Path) -> None:
    voice = open_voice(media / "own.wav")
    assert voice.frames == 47  # 46.875: one that has begun counts
    samples = voice.samples()
    assert samples.shape == (47 * SAMPLES_PER_FRAME,) and not samples[30_000:].any()
    assert np.abs(samples[:30_000] - soundfile.read(media / "own.wav", dtype="float32")[0]).max() < 1e-4
    parts = list(blocks(voice.path, voice.track, voice.span.start - Fraction(1, 5), 60, SAMPLE_RATE, 2))
    assert len(parts) == 60 and {part.shape for part in parts} == {(2, SAMPLES_PER_FRAME)}
    later = np.concatenate(parts, axis=1)
    assert not later[:, :3200].any() and np.corrcoef(later[0, 3200:33_200], samples[:30_000])[0, 1] > 0.999


def test_sound_is_placed_as_the_pipeline_places_it(media: Path) -> None:
    voice = open_voice(media / "driver.mp4")
    assert voice.track.start > 0.1
    span = Span(Fraction(0), Fraction(FRAMES, FPS))
    parts = blocks(voice.path, voice.track, span.start, FRAMES, SAMPLE_RATE, 1)
    assert np.array_equal(np.concatenate(list(parts), axis=1)[0], read_sound(voice.path, voice.track, span).samples)


# films


def test_animate_writes_what_the_driver_shows_and_says(
    media: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.mp4"
    words = ("--portrait", media / "face.png", "--driver", media / "driver.mp4", "--weights", weights, "--out", out)
    code, said = run(capsys, monkeypatch, "animate", *words)
    assert code == 0 and f"{FRAMES} frames (1.20 s) of {SIZE} x {SIZE}" in said and "fps" in said
    frames, sound, _ = watched(out)
    assert frames.shape == (FRAMES, SIZE, SIZE, 3) and read_mark(out) is not None
    assert sound is not None and np.abs(sound[0, :5000]).max() < 0.01 and np.abs(sound[0, 12_000:40_000]).std() > 0.01
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("given", [("own", "partner"), ("own",), ("partner",)])
def test_talk_needs_no_role(
    given: tuple[str, ...],
    media: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out.mp4"
    voices = [word for name in given for word in (f"--{name}", media / f"{name}.wav")]
    code, _ = run(capsys, monkeypatch, "talk", "--portrait", media / "face.png", *voices, "--weights", weights, "--out", out)
    frames, sound, _ = watched(out)
    assert code == 0 and read_mark(out) is not None
    assert len(frames) == (65 if "partner" in given else 47)
    assert sound is not None and len(sound) == len(given)
    if len(given) == 2:  # own left, which ends first; partner right
        assert sound[0, :80_000].std() > 0.02 and sound[0, 94_000:].std() < 0.01 and sound[1, 94_000:120_000].std() > 0.02


def test_role_baseline_differs_from_hearing_both(
    media: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["talk", "--portrait", media / "face.png", "--own", media / "own.wav", "--partner", media / "partner.wav"]
    made = []
    for name, more in (("unified", []), ("roles", ["--baseline", "roles"])):
        code, _ = run(capsys, monkeypatch, *words, "--weights", weights, "--out", tmp_path / f"{name}.mp4", *more)
        assert code == 0
        made.append(watched(tmp_path / f"{name}.mp4")[0])
    assert made[0].shape == made[1].shape and not np.array_equal(*made) and read_mark(tmp_path / "roles.mp4") is not None


def test_frames_are_made_as_they_are_taken(agent: Agent, subject: Subject) -> None:
    taken = count()

    def endless() -> Iterator[np.ndarray]:
        for _ in taken:
            yield subject.crop.image

    frames = agent.animate(subject, endless(), np.repeat(subject.crop.landmarks[None], 1000, axis=0))
    assert next(frames).shape == (SIZE, SIZE, 3) and next(taken) < 40


def test_relative_motion_of_a_still_driver_leaves_the_portrait_as_it_is(agent: Agent, subject: Subject) -> None:
    stills = [np.full_like(subject.crop.image, 99)] * 3
    landmarks = np.repeat(subject.crop.landmarks[None] + np.float32([3, -2, 0]), 3, axis=0)
    own = next(agent.render(subject, subject.latent))
    relative = list(agent.animate(subject, stills, landmarks, relative=True))
    absolute = list(agent.animate(subject, stills, landmarks))
    assert all(np.abs(frame.astype(int) - own).max() <= 1 for frame in relative)
    assert np.abs(absolute[0].astype(int) - own).max() > 1


def test_live_is_offline_to_the_bit(agent: Agent, subject: Subject) -> None:
    rng = np.random.default_rng(1)
    own, partner = (rng.standard_normal(41_234).astype(np.float32) * 0.1 for _ in range(2))
    offline = list(agent.talk(subject, own, partner, seed=3, chunk=10))
    live = agent.live(subject, seed=3, chunk=10)
    frames: list[np.ndarray] = []
    first = None
    for start in range(0, len(own), 777):
        frames += live.push(own[start : start + 777], partner[start : start + 777])
        if frames and first is None:
            first = min(start + 777, len(own))
    frames += live.finish()
    assert len(frames) == len(offline) == 65 and np.array_equal(np.stack(frames), np.stack(offline))
    assert live.latency == (10 + agent.stage2.ahead) / FPS
    assert first is not None and 0 <= first - live.latency * SAMPLE_RATE < 777, "the first frame is there when latency says"
    other = list(agent.talk(subject, own, partner, seed=4, chunk=10))
    assert not np.array_equal(np.stack(other), np.stack(offline))


# what goes wrong


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["animate", "--portrait", "{media}/none.png", "--driver", "{media}/driver.mp4"], 2, "no such file: "),
        (["animate", "--portrait", "{media}/face.png", "--driver", "{media}/own.wav"], 2, "found only sound"),
        (["animate", "--portrait", "{media}/face.png", "--driver", "{media}/face.png"], 2, "is no video"),
        (["animate", "--portrait", "{media}/own.wav", "--driver", "{media}/driver.mp4"], 2, "not a readable picture"),
        (["animate", "--portrait", "{media}/face.png", "--driver", "{media}/driver.mp4", "--out", "x.avi"], 2, "end in .mp4"),
        (["animate", "--portrait", "{media}/face.png", "--driver", "{media}/driver.mp4", "--device", "abacus"], 2, "abacus"),
        (["talk", "--portrait", "{media}/face.png"], 2, "neither --own nor --partner"),
        (["talk", "--portrait", "{media}/face.png", "--own", "{media}/silent.mp4"], 2, "expected sound in "),
        (["talk", "--portrait", "{media}/face.png", "--own", "{media}/own.wav", "--chunk", "26"], 2, "chunk of 1 to 25"),
        (
            ["talk", "--portrait", "{media}/face.png", "--own", "{media}/own.wav", "--weights", "{media}"],
            1,
            "encoder and renderer",
        ),
    ],
)
def test_a_mistake_is_told_in_words_and_by_exit_code(
    words: list[str],
    code: int,
    told: str,
    media: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [word.format(media=media) for word in words]
    given += [] if "--weights" in given else ["--weights", str(weights)]
    found, said = run(capsys, monkeypatch, *given)
    assert found == code and said.count("error: ") == 1 and told in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_driver_without_a_face_is_refused(
    weights: Path, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with VideoWriter(tmp_path / "wall.mp4", 320, 180) as writer:
        for _ in range(20):
            writer.write(np.full((180, 320, 3), 90, np.uint8))
    words = (
        "--portrait",
        media / "face.png",
        "--driver",
        tmp_path / "wall.mp4",
        "--weights",
        weights,
        "--out",
        tmp_path / "o.mp4",
    )
    code, said = run(capsys, monkeypatch, "animate", *words)
    assert code == 2 and "expected a face in" in said and "wall.mp4" in said and not (tmp_path / "o.mp4").exists()


def test_weights_that_do_not_belong_together_are_refused(weights: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_stage1(Stage1(STAGE1["debug"]), tmp_path / "stage1.safetensors")
    (tmp_path / "stage2.safetensors").write_bytes((weights / "stage2.safetensors").read_bytes())
    with pytest.raises(UsageError, match="of encoder"):
        Agent.load(tmp_path, device="cpu")
    with pytest.raises(UsageError, match="of encoder"):
        Agent(load_stage1(tmp_path / "stage1.safetensors"), Stage2.load(weights / "stage2.safetensors"))
    save_stage1(load_stage1(tmp_path / "stage1.safetensors"), tmp_path / "again.safetensors", parts=("renderer",))
    with pytest.raises(UsageError, match=r"one file with renderer .* again.safetensors, stage1.safetensors"):
        in_folder(tmp_path)


def test_reference_weights_that_are_gone_name_what_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_PACKAGED", tmp_path)
    with pytest.raises(ModelMissing, match=r"infp_encoder/model.safetensors") as caught:
        Agent.load()
    assert "python -m training.train" in str(caught.value)


def test_an_agent_without_stage_2_can_be_driven_but_cannot_talk(weights: Path, subject: Subject, tmp_path: Path) -> None:
    (tmp_path / "stage1.safetensors").write_bytes((weights / "stage1.safetensors").read_bytes())
    agent = Agent.load(tmp_path, device="cpu")
    assert next(agent.render(subject, subject.latent)).shape == (SIZE, SIZE, 3)
    with pytest.raises(UsageError, match="no Stage 2"):
        next(agent.talk(subject, np.zeros(640, np.float32), None))


# the pipeline's motion encoder


def test_encoder_of_the_pipeline_gives_the_same_bytes_however_long_the_clip(weights: Path, subject: Subject) -> None:
    encoder = InfpMotion(weights / "stage1.safetensors")
    rng = np.random.default_rng(0)
    count = BATCH + 5
    pictures = np.clip(subject.crop.image + rng.integers(-40, 40, (count, 1, 1, 3)), 0, 255).astype(np.uint8)
    landmarks = subject.crop.landmarks + rng.normal(0, 2, (count, 1, 3)).astype(np.float32)
    latents = encoder.encode(pictures, landmarks)
    assert latents.shape == (count, 512) == (count, len(encoder.names)) and encoder.names[0] == "latent_000"
    assert encoder.hash == load_stage1(weights / "stage1.safetensors").encoder_hash
    for shorter in (1, BATCH, BATCH + 1):
        assert encoder.encode(pictures[:shorter], landmarks[:shorter]).tobytes() == latents[:shorter].tobytes()
    assert encoder.encode(pictures[:0], landmarks[:0]).shape == (0, 512)
    assert np.abs(np.diff(latents, axis=0)).max() > 1e-3


def test_stage_encode_motion_takes_it_by_name(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.test_motion import FRAMES as TALK
    from tests.test_motion import make_clip, nodding
    from tests.test_motion import run as run_stage

    packaged = tmp_path / "packaged" / "infp_encoder"
    packaged.mkdir(parents=True)
    save_stage1(load_stage1(weights / "stage1.safetensors"), packaged / "model.safetensors", half=True, parts=("encoder",))
    spec = registry.get("infp")
    unpinned = replace(spec, weights=tuple(replace(weight, sha256=None) for weight in spec.weights))
    monkeypatch.setattr("dyconv.models.catalogue.MODELS", (unpinned,))
    monkeypatch.setattr(registry, "_PACKAGED", tmp_path / "packaged")
    clip, store = make_clip(tmp_path, nodding(), np.ones(TALK, bool))
    out = run_stage(clip, store, tmp_path / "scratch", EncodeMotion(encoder="infp"))
    assert isinstance(out, Clip)
    assert isinstance(registry.load("infp"), MotionEncoder)
    hashed = load_stage1(weights / "stage1.safetensors").encoder_hash  # rounding to half precision makes no other space
    assert (out.measures["motion.encoder"], out.measures["motion.hash"]) == ("infp", hashed)
    latents = load_arrays(store.local(out.assets[Key.P0_MOTION].path))["latents"]
    assert latents.shape == (TALK, 512) and np.abs(np.diff(latents, axis=0)).max() > 1e-3
