"""Readers of media, arrays, pictures and weights."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from tests.fuzz.target import Target, written


def _npz(_: Path) -> bytes:
    from dyconv.arrays import save_arrays

    buffer = io.BytesIO()
    save_arrays(
        buffer, {"present": np.ones(20, bool), "latents": np.zeros((20, 4), np.float32), "names": np.array(["a", "bb"])}
    )
    return buffer.getvalue()


def _read_npz(folder: Path, data: bytes) -> object:
    from dyconv.arrays import load_arrays

    found = load_arrays(io.BytesIO(data))
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in found.values())
    return found, load_arrays(written(folder, "a.npz", data))


def _sound(suffix: str, channels: int) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        from dyconv.media.audio import write_audio

        samples = np.sin(np.arange(8000) / 9).astype(np.float32)
        write_audio(folder / f"made{suffix}", samples if channels == 1 else np.stack([samples] * channels))
        return (folder / f"made{suffix}").read_bytes()

    return make


def _read_sound(suffix: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, data: bytes) -> object:
        from dyconv.errors import StoreError
        from dyconv.media.audio import read_audio, read_channels

        with suppress(StoreError):
            read_audio(io.BytesIO(data))
        path = written(folder, f"a{suffix}", data)
        return read_channels(path), read_channels(path, 100, 300)

    return read


def _video(folder: Path) -> bytes:
    from tests.small_build import write_video

    write_video(folder / "made.mp4", 12)
    return (folder / "made.mp4").read_bytes()


def _read_video(folder: Path, data: bytes) -> object:
    from dyconv.errors import StoreError
    from dyconv.media.video import frame_count, frame_size, keyframes, read_frames

    path = written(folder, "a.mp4", data)
    for use in (frame_count, frame_size, keyframes):
        with suppress(StoreError):
            use(path)
    return sum(1 for _ in read_frames(io.BytesIO(data))), sum(1 for _ in read_frames(path, 3, 9, size=(32, 32)))


def _foreign(name: str, **how: object) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        from tests.mediagen import make_media

        return make_media(folder / f"made-{name}", duration=1.0, size=(64, 36), **how).path.read_bytes()  # type: ignore[arg-type]

    return make


def _look(name: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, data: bytes) -> object:
        """As the downloader looks at a body: it is a drop, or what it says must be sane."""
        from dyconv.bounds import MEDIA_SECONDS
        from dyconv.download.look import NotMedia, look

        try:
            seen = look(written(folder, name, data))
        except NotMedia as error:
            assert str(error).strip()
            return None
        assert 0 <= seen.span.duration <= MEDIA_SECONDS.now
        return seen

    return read


def _stages(name: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, data: bytes) -> object:
        """Scenes and normalize: clips or drops, nothing else."""
        import tempfile

        from dyconv.records import Clip
        from dyconv.stages.normalize import Normalize
        from dyconv.stages.scenes import Scenes
        from tests.mediagen import Bench

        with tempfile.TemporaryDirectory(dir=folder) as place:
            bench = Bench(Path(place))
            outcomes = bench.run(Scenes(), bench.source(written(folder, name, data)))
            cut = [one for one in outcomes if isinstance(one, Clip)]
            return [bench.run(Normalize(preset="ultrafast"), one) for one in cut[:4]]

    return read


def _joined(folder: Path, data: bytes) -> object:
    from dyconv.download.join import NotJoinable, join

    try:
        return join(folder / "made-partner.mp4", written(folder, "partner.mkv", data), folder / "joined.mkv")
    except NotJoinable as error:
        assert error.detail
        return None


def _partner(folder: Path) -> bytes:
    _foreign("partner.mp4")(folder)
    return _foreign("other.mkv")(folder)


def _picture(form: str) -> Callable[[Path], bytes]:
    def make(_: Path) -> bytes:
        from PIL import Image

        buffer = io.BytesIO()
        pixels = np.arange(64 * 48 * 3, dtype=np.uint8).reshape(48, 64, 3)
        Image.fromarray(pixels).save(buffer, form)
        return buffer.getvalue()

    return make


def _read_picture(folder: Path, data: bytes) -> object:
    from dyconv.synth.footage import is_clip
    from dyconv.synth.puppet import read_picture

    path = written(folder, "a.png", data)
    is_clip(path)
    return read_picture(path)


def _marked(folder: Path) -> bytes:
    from dyconv.infp.mark import append_mark

    _video(folder)
    append_mark(folder / "made.mp4")
    return (folder / "made.mp4").read_bytes()


def _read_mark(folder: Path, data: bytes) -> object:
    from dyconv.infp.mark import read_mark

    return read_mark(written(folder, "a.mp4", data))


# Weights


def _stage1(folder: Path) -> bytes:
    from dyconv.infp.config import Stage1Config
    from dyconv.infp.stage1 import Stage1, save_stage1

    config = Stage1Config(size=16, latent=8, directions=4, channels=(8, 8, 8), warped=(8,), style=8)
    save_stage1(Stage1(config), folder / "made.safetensors")
    return (folder / "made.safetensors").read_bytes()


def _read_stage1(folder: Path, data: bytes) -> object:
    from dyconv.infp.stage1 import load_stage1
    from dyconv.infp.weights import in_folder

    path = written(folder, "w/a.safetensors", data)
    in_folder(path.parent)
    return load_stage1(path)


def _stage2(folder: Path) -> bytes:
    from dyconv.infp.config import Stage2Config
    from dyconv.infp.stage2 import Stage2

    Stage2(Stage2Config(latent=8, width=16, blocks=1, heads=2, bank=2, codes=4), encoder_hash="a" * 64).save(folder / "made.st")
    return (folder / "made.st").read_bytes()


def _read_stage2(folder: Path, data: bytes) -> object:
    from dyconv.infp.stage2 import Stage2

    return Stage2.load(written(folder, "a.safetensors", data))


def _corrector(_: Path) -> bytes:
    from safetensors.torch import save

    from dyconv.models.target_tasnet_net import Corrector, Shape

    shape = Shape(fine=4, middle=4, coarse=8, recurrent=8, depth=1)
    return save(
        {name: value.contiguous() for name, value in Corrector(shape).state_dict().items()}, {"shape": _json(shape.to_json())}
    )


def _json(value: object) -> str:
    import json

    return json.dumps(value)


def _read_corrector(folder: Path, data: bytes) -> object:
    from dyconv.models.target_tasnet import _load

    return _load(written(folder, "a.safetensors", data))


def _denoiser(folder: Path) -> bytes:
    from demucs.htdemucs import HTDemucs

    from dyconv.models.demucs_enhancer import SHAPE
    from dyconv.models.demucs_load import save_network

    kwargs = {**SHAPE, "channels": 8, "t_layers": 1, "t_heads": 2, "segment": 1}
    save_network(folder / "made.safetensors", HTDemucs(**kwargs), kwargs)
    return (folder / "made.safetensors").read_bytes()


def _read_denoiser(folder: Path, data: bytes) -> object:
    from dyconv.models.demucs_load import load_network

    return load_network(written(folder, "a.safetensors", data))


TARGETS = (
    Target("npz", "npz", _npz, _read_npz, seeds=400),
    Target("flac", "flac", _sound(".flac", 1), _read_sound(".flac"), seeds=300),
    Target("wav", "wav", _sound(".wav", 2), _read_sound(".wav"), seeds=200),
    Target("video", "mp4", _video, _read_video, seeds=120),
    Target("look_mp4", "mp4", _foreign("a.mp4"), _look("a.mp4"), seeds=150),
    Target("look_mkv", "mkv", _foreign("a.mkv"), _look("a.mkv"), seeds=150),
    Target(
        "look_webm", "mkv", _foreign("a.webm", video="libvpx", audio="libopus", audio_rate=48000), _look("a.webm"), seeds=80
    ),
    Target("stages_mp4", "mp4", _foreign("b.mp4"), _stages("b.mp4"), seeds=25),
    Target("stages_mkv", "mkv", _foreign("b.mkv"), _stages("b.mkv"), seeds=25),
    Target("join", "mkv", _partner, _joined, seeds=20),
    Target("picture_png", "png", _picture("PNG"), _read_picture, seeds=150),
    Target("picture_jpeg", "jpeg", _picture("JPEG"), _read_picture, seeds=100),
    Target("mark", "mp4", _marked, _read_mark, seeds=150),
    Target("stage1", "safetensors", _stage1, _read_stage1, seeds=80),
    Target("stage2", "safetensors", _stage2, _read_stage2, seeds=80),
    Target("target_tasnet", "safetensors", _corrector, _read_corrector, seeds=60),
    Target("demucs", "safetensors", _denoiser, _read_denoiser, seeds=40),
)
