"""Shards: same bytes for the same clips, nothing trusted on the way back, no clip lost or doubled."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from dyconv.arrays import save_arrays
from dyconv.errors import ShardError, StoreError, UsageError
from dyconv.media.audio import write_audio
from dyconv.media.video import VideoWriter, read_frames
from dyconv.recipe import Recipe
from dyconv.records import Clip, Key, Person, Source, Track, Turn
from dyconv.shards import Sample, check, open_shards, pack, read_index
from dyconv.shards.sample import make_sample
from dyconv.shards.table import read_table, union
from dyconv.shards.tar import Member, TarWriter, read_members
from dyconv.store import Store, sha256_of
from dyconv.time import Span

FRAMES = 6
KEYS = (Key.VIDEO, Key.MIX, Key.P0_CROP, Key.P0_MOTION)
RECIPE = Recipe(name="tiny", about="", stages=(), pack=KEYS, samples_per_shard=2)


def make_clip(store: Store, number: int, scratch: Path, *, space: str = "a" * 64, shift: float = 0.0) -> Clip:
    """A clip of six frames whose pictures, sound and latents all say its number."""
    source = Source(id="talk", url="https://example.org/talk", licence="CC-BY-4.0")
    start = Fraction(number)
    clip = Clip(
        id=f"talk_{number:04d}",
        source=source,
        span=Span(start, start + Fraction(FRAMES, 25)),
        shots=(Span.of_frames(0, FRAMES),),
        layout="two-shot",
        tracks=(Track("t0", 0, 0, FRAMES, 120.0, 1.0, "i0", "p0"), Track("t1", 0, 0, 3, 60.0, 1.0, "i1", "p1")),
        people=(Person("p0", "i0", True, True), Person("p1", "i1", True, True)),
        turns=(Turn("p0", Span.of("0", "0.12"), 0.9), Turn("p1", Span.of("0.08", "0.24"), 0.8)),
        measures={"av_offset_s": 0.01, "p0.bleed_db": -20.0, "motion.encoder": "toy", "motion.hash": space},
    )
    paths = {key: scratch / f"{clip.id}.{key}" for key in KEYS}
    with VideoWriter(paths[Key.VIDEO], 32, 32) as writer:
        for _ in range(FRAMES):
            writer.write(np.full((32, 32, 3), 20 * (number % 10), np.uint8))
    write_audio(paths[Key.MIX], np.full(FRAMES * 640, number / 100, np.float32))
    crop = {"box": np.zeros(4, np.float32), "present": np.ones(FRAMES, bool)}
    save_arrays(paths[Key.P0_CROP], {**crop, "landmarks": np.zeros((FRAMES, 478, 3), np.int16)})
    latents = np.full((FRAMES, 4), number + shift, np.float32)
    save_arrays(paths[Key.P0_MOTION], {"latents": latents, "present": np.ones(FRAMES, bool)})
    refs = {key: store.put(path, f"work/{space[:4]}-{shift}/{path.name}") for key, path in paths.items()}
    return replace(clip, assets=refs)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Clip]]:
    root = tmp_path_factory.mktemp("build")
    store = Store(root)
    clips = [make_clip(store, number, tmp_path_factory.mktemp("scratch")) for number in range(5)]
    pack(store, RECIPE, clips)
    return root, clips


@pytest.fixture
def build(made: tuple[Path, list[Clip]], tmp_path: Path) -> tuple[Path, list[Clip]]:
    """A copy of the build, to spoil."""
    root = tmp_path / "build"
    shutil.copytree(made[0], root)
    return root, made[1]


def hashes(root: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted((root / "shards").iterdir())}


def told(root: Path) -> str:
    return "\n".join(str(problem) for problem in check(Store(root)).problems)


def test_layout_and_index(made: tuple[Path, list[Clip]]) -> None:
    root = made[0]
    names = sorted(path.name for path in (root / "shards").iterdir())
    tars = [f"{family}-{i:06d}.tar" for family in ("clips", "motion-aaaaaaaa") for i in range(3)]
    assert names == sorted([*tars, "clips.parquet", "index.json"])
    index = read_index(Store(root))
    assert (index.samples, index.encoder and index.encoder.name, index.hours) == (5, "toy", round(5 * 0.24 / 3600, 6))
    assert index.clips[0].fields == {"json": 2, "mix.flac": 2, "p0.crop.npz": 2, "video.mp4": 2}
    assert [shard.samples for shard in index.motion] == [2, 2, 1]
    assert check(Store(root)).ok and check(Store(root), deep=True).ok
    first = read_table(root / "shards" / "clips.parquet")[0]
    assert first["p0_speaking_share"] == 0.5 and first["p1_speaking_share"] == pytest.approx(0.6667)
    assert first["overlap_share"] == pytest.approx(0.1667, abs=1e-4)
    assert (first["p0_face_width_px"], first["motion_hash"], first["shard"]) == (120.0, "a" * 64, "clips-000000.tar")


def test_plain_webdataset_reads_them(made: tuple[Path, list[Clip]]) -> None:
    urls = [str(path) for path in sorted((made[0] / "shards").glob("clips-*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [clip.id for clip in made[1]]
    record = json.loads(samples[0]["json"])
    assert record["assets"]["video.mp4"]["path"] == "talk_0000.video.mp4"
    assert "motion" not in samples[0]["json"].decode() and "work/" not in samples[0]["json"].decode()


def test_bytes_do_not_depend_on_place_or_time(made: tuple[Path, list[Clip]], tmp_path: Path) -> None:
    store = Store(tmp_path / "elsewhere")
    for clip in made[1]:
        for ref in clip.assets.values():
            target = Path(store.root) / ref.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(made[0] / ref.path, target)
    pack(store, RECIPE, iter(made[1]))
    assert hashes(Path(store.root)) == hashes(made[0])


def test_again_writes_nothing_and_new_motion_only_motion(build: tuple[Path, list[Clip]], tmp_path: Path) -> None:
    root, clips = build
    store = Store(root)
    before = {path.name: path.stat().st_mtime_ns for path in (root / "shards").iterdir()}
    result = pack(store, RECIPE, clips)
    assert (result.written, result.unchanged, result.removed) == (0, 6, 0)
    assert {path.name: path.stat().st_mtime_ns for path in (root / "shards").iterdir()} == before
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    encoded = [make_clip(store, number, scratch, space="b" * 64, shift=100) for number in range(5)]
    pairs = zip(clips, encoded, strict=True)
    again = [replace(new, assets={**old.assets, Key.P0_MOTION: new.assets[Key.P0_MOTION]}) for old, new in pairs]
    result = pack(store, RECIPE, again)
    assert (result.written, result.unchanged, result.removed) == (3, 3, 3)
    after = {path.name: path.stat().st_mtime_ns for path in (root / "shards").glob("clips-*.tar")}
    assert all(before[name] == stamp for name, stamp in after.items())
    assert check(store).ok and not list((root / "shards").glob("motion-aaaaaaaa*"))
    assert {float(sample.arrays(Key.P0_MOTION)["latents"][0, 0]) for sample in open_shards(root)} == {100, 101, 102, 103, 104}


def test_fewer_clips_remove_stale_shards(build: tuple[Path, list[Clip]]) -> None:
    root, clips = build
    (root / "shards" / ".packing-old").mkdir()
    (root / "shards" / ".index.json.x.tmp").write_text("half")
    pack(Store(root), RECIPE, clips[:2])
    assert sorted(hashes(root)) == ["clips-000000.tar", "clips.parquet", "index.json", "motion-aaaaaaaa-000000.tar"]
    pack(Store(root), RECIPE, [])
    assert sorted(hashes(root)) == ["clips.parquet", "index.json"] and check(Store(root)).ok
    assert list(open_shards(root)) == []


def test_a_tar_says_what_it_is_and_takes_no_member_that_is_something_else(tmp_path: Path) -> None:
    contents = {f"a_{number:04d}.mix.flac": bytes([number]) * (number * 90_001) for number in range(40)}  # to 3.5 MB
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    good = [Member(name, tmp_path / name, hashlib.sha256(data).hexdigest()) for name, data in contents.items()]
    with TarWriter(tmp_path / "a.tar") as tar:
        for member in good:
            tar.add(member)
        tar.add(Member("b_0000.json", b"{}"))
    assert (tar.sha256, tar.size) == (sha256_of(tmp_path / "a.tar"), (tmp_path / "a.tar").stat().st_size)
    with tarfile.open(tmp_path / "a.tar") as read:
        assert {item.name: read.extractfile(item).read() for item in read} == {**contents, "b_0000.json": b"{}"}
    for spoiled in (0, 20, 39):
        with pytest.raises(StoreError, match=r"0000|0020|0039"), TarWriter(tmp_path / "b.tar") as tar:
            for number, member in enumerate(good):
                tar.add(replace(member, sha256="0" * 64) if number == spoiled else member)


@pytest.mark.parametrize("puts", range(7))
def test_broken_off_anywhere_then_again(build: tuple[Path, list[Clip]], puts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack of other clips dies after some renames; the first clips packed again must give the first bytes."""
    root, clips = build
    wanted = hashes(root)
    store = Store(root)
    done = [0]
    real = Store.put

    def dying(self: Store, local: Path, path: str, **more: Any) -> object:
        if path.startswith("shards/"):
            done[0] += 1
            if done[0] > puts:
                raise KeyboardInterrupt
        return real(self, local, path, **more)

    monkeypatch.setattr(Store, "put", dying)
    with pytest.raises(KeyboardInterrupt):
        pack(store, RECIPE, clips[1:])
        raise KeyboardInterrupt
    monkeypatch.undo()
    pack(store, RECIPE, clips)
    assert hashes(root) == wanted


def test_pack_refuses(build: tuple[Path, list[Clip]]) -> None:
    root, clips = build
    with pytest.raises(UsageError, match="comes twice"):
        pack(Store(root), RECIPE, [clips[0], clips[0]])
    with pytest.raises(UsageError, match=r"talk_0000 comes after talk_0001"):
        pack(Store(root), RECIPE, [clips[1], clips[0]])
    other = replace(clips[1], measures={**clips[1].measures, "motion.hash": "c" * 64})
    with pytest.raises(UsageError, match="2 encoders"):
        pack(Store(root), RECIPE, [clips[0], other])
    (root / clips[0].assets[Key.MIX].path).write_bytes(b"changed")
    with pytest.raises(StoreError, match="not what was written"):
        pack(Store(root), replace(RECIPE, samples_per_shard=3), clips)


def cut_member(path: Path) -> None:
    """Drop the last sample at a member boundary and end the tar properly: it reads as a shorter shard."""
    with path.open("rb") as file:
        members = list(read_members(file, path.name))
    kept = [member for member in members if member[0] != members[-1][0]]
    with TarWriter(path) as tar:
        for clip_id, name, data in kept:
            tar.add(Member(f"{clip_id}.{name}", data))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("spoil", [cut_member, flip, truncate, Path.unlink])
@pytest.mark.parametrize("name", ["clips-000001.tar", "motion-aaaaaaaa-000001.tar"])
def test_damage_is_found_by_check_and_loader(build: tuple[Path, list[Clip]], spoil: object, name: str) -> None:
    root, clips = build
    spoil(root / "shards" / name)  # type: ignore[operator]
    assert name in told(root)
    with pytest.raises(ShardError, match=name):
        list(open_shards(root))
    (root / "shards" / name).unlink(missing_ok=True)
    pack(Store(root), RECIPE, clips)
    assert told(root) == ""


def test_check_names_extra_missing_and_table(build: tuple[Path, list[Clip]]) -> None:
    root, _ = build
    shutil.copy(root / "shards" / "clips-000000.tar", root / "shards" / "clips-000009.tar")
    assert "clips-000009.tar: a shard the index does not list" in told(root)
    (root / "shards" / "clips-000009.tar").unlink()
    flip(root / "shards" / "clips.parquet")
    assert "clips.parquet" in told(root)
    (root / "shards" / "clips.parquet").unlink()
    assert "clips.parquet: missing" in told(root)
    (root / "shards" / "index.json").write_text("{")
    with pytest.raises(ShardError, match="damaged"):
        check(Store(root))


def reindex(root: Path, name: str) -> None:
    """Make the index agree with a spoilt tar, as a hostile or careless writer would."""
    path = root / "shards" / "index.json"
    data = json.loads(path.read_text())
    for shard in data["clips"] + data["motion"]:
        if shard["name"] == name:
            tar = root / "shards" / name
            shard |= {"sha256": sha256_of(tar), "bytes": tar.stat().st_size}
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("name", ["../evil.json", "/etc/evil.json", "a/b.json", "noextension", "talk_0000.../x"])
def test_unsafe_member_names(build: tuple[Path, list[Clip]], name: str) -> None:
    root, _ = build
    with TarWriter(root / "shards" / "clips-000000.tar") as tar:
        tar.add(Member(name, b"{}"))
    reindex(root, "clips-000000.tar")
    assert "is not named <clip id>.<field>" in told(root)
    with pytest.raises(ShardError, match="is not named"):
        list(open_shards(root))


def test_links_are_refused(build: tuple[Path, list[Clip]]) -> None:
    root, _ = build
    with tarfile.open(root / "shards" / "clips-000000.tar", "w") as tar:
        link = tarfile.TarInfo("talk_0000.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    reindex(root, "clips-000000.tar")
    assert "not a plain file" in told(root)
    with pytest.raises(ShardError):
        list(open_shards(root))


def test_lengths_that_disagree(tmp_path: Path) -> None:
    store = Store(tmp_path / "build")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    clip = make_clip(store, 1, scratch)
    write_audio(scratch / "short.flac", np.zeros(640, np.float32))
    save_arrays(scratch / "short.npz", {"latents": np.zeros((2, 4), np.float32), "present": np.ones(2, bool)})
    (scratch / "half.mp4").write_bytes(store.read_bytes(clip.assets[Key.VIDEO].path)[:300])
    changed = {
        Key.MIX: store.put(scratch / "short.flac", "work/short.flac"),
        Key.P0_MOTION: store.put(scratch / "short.npz", "work/short.npz"),
        Key.VIDEO: store.put(scratch / "half.mp4", "work/half.mp4"),
    }
    pack(store, RECIPE, [replace(clip, assets={**clip.assets, **changed})])
    report = told(Path(store.root))
    assert "mix.flac has 640 samples, 6 frames want 3840" in report
    assert "latents has 2 rows" in report and "video.mp4 does not decode" in report


def test_loader_decodes_what_was_packed(made: tuple[Path, list[Clip]]) -> None:
    root, clips = made
    samples = list(open_shards(root))
    assert [sample.id for sample in samples] == [clip.id for clip in clips]
    sample = samples[3]
    assert sample.clip.turns == clips[3].turns and sample.clip.source == clips[3].source
    want = np.stack(list(read_frames(root / clips[3].assets[Key.VIDEO].path, 2, 5)))
    assert np.array_equal(sample.frames(Key.VIDEO, 2, 5), want)
    assert sample.audio(Key.MIX).dtype == np.float32 and sample.audio(Key.MIX)[7] == pytest.approx(0.03, abs=1e-4)
    assert sample.arrays(Key.P0_MOTION)["latents"][0, 0] == 3
    assert set(open_shards(root, keys=[Key.MIX]).__iter__().__next__().members) == {Key.MIX}
    with pytest.raises(KeyError, match=r"no p1\.voice\.flac"):
        sample.audio(Key.P1_VOICE)


def test_pickles_are_never_read(tmp_path: Path) -> None:
    array = np.empty(1, object)
    array[0] = {"x": 1}
    buffer = io.BytesIO()
    np.savez(buffer, latents=array)
    sample = _sample_with(buffer.getvalue())
    with pytest.raises(StoreError, match="plain arrays"):
        sample.arrays(Key.P0_MOTION)


def _sample_with(data: bytes) -> Sample:
    record = Clip(id="c", source=Source(id="s", url="u"), span=Span.of(0, 1)).to_json()
    return make_sample("c", {"json": json.dumps(record).encode(), "p0.motion.npz": data}, "x.tar")


def ident(sample: object) -> str:
    return str(sample.id)  # type: ignore[attr-defined]


@settings(max_examples=15, deadline=None)
@given(world=st.integers(1, 3), buffer=st.integers(0, 9), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_ranks_share_everything_once(made: tuple[Path, list[Clip]], world: int, buffer: int, seed: int, epoch: int) -> None:
    seen: list[str] = []
    for rank in range(world):
        dataset = open_shards(made[0], shuffle=buffer, seed=seed, rank=rank, world_size=world, transform=ident)
        dataset.set_epoch(epoch)
        part = list(dataset)
        assert part == list(dataset)
        seen += part
    assert Counter(seen) == Counter(clip.id for clip in made[1])


def test_orders_differ_by_epoch_and_seed(made: tuple[Path, list[Clip]]) -> None:
    orders = set()
    for seed in range(3):
        dataset = open_shards(made[0], shuffle=10, seed=seed, transform=ident)
        for epoch in range(3):
            dataset.set_epoch(epoch)
            orders.add(tuple(dataset))
    assert len(orders) >= 6


def test_workers_share_everything_once_and_follow_the_epoch(made: tuple[Path, list[Clip]]) -> None:
    dataset = open_shards(made[0], shuffle=4, transform=ident)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    orders = []
    for epoch in range(3):
        dataset.set_epoch(epoch)
        orders.append(tuple(loader))
        assert sorted(orders[-1]) == [clip.id for clip in made[1]]
    assert len(set(orders)) > 1


def test_too_few_shards_for_the_ranks_and_wrong_encoder(made: tuple[Path, list[Clip]]) -> None:
    with pytest.raises(UsageError, match="4 ranks"):
        open_shards(made[0], rank=0, world_size=4)
    with pytest.raises(UsageError, match="space bbbbbbbb"):
        open_shards(made[0], encoder_hash="b" * 64)
    with pytest.raises(ShardError, match="has no shards/index"):
        open_shards(made[0] / "shards")


def test_remote_store_streams_and_verifies(made: tuple[Path, list[Clip]], tmp_path: Path) -> None:
    remote = Store("memory://shards-test")
    local = Store(made[0])
    clips = made[1]
    for clip in clips:
        for ref in clip.assets.values():
            remote.write_bytes(ref.path, local.read_bytes(ref.path))
    pack(remote, RECIPE, clips)
    for name in ("clips-000001.tar", "index.json", "clips.parquet"):
        assert remote.read_bytes(f"shards/{name}") == local.read_bytes(f"shards/{name}")
    assert [sample.id for sample in open_shards("memory://shards-test")] == [clip.id for clip in clips]
    assert len(list(open_shards("memory://shards-test", cache=tmp_path))) == 5
    assert check(remote).ok
    remote.write_bytes("shards/clips-000001.tar", remote.read_bytes("shards/clips-000001.tar")[:-512])
    with pytest.raises(ShardError, match=r"clips-000001\.tar"):
        list(open_shards("memory://shards-test"))


def test_clips_in_which_nobody_is_seen(build: tuple[Path, list[Clip]]) -> None:
    """Motion shards stay aligned where whole shards, or clips in the middle, have no motion; recipes may leave it out."""
    root, clips = build
    bare = {"av_offset_s": 0.0}
    some = [
        replace(clip, measures=bare, assets={Key.VIDEO: clip.assets[Key.VIDEO]}) if number in (0, 1, 3) else clip
        for number, clip in enumerate(clips)
    ]
    pack(Store(root), RECIPE, some)
    index = read_index(Store(root))
    assert [shard.samples for shard in index.motion] == [0, 1, 1] and check(Store(root)).ok
    samples = list(open_shards(root))
    assert [Key.P0_MOTION in sample for sample in samples] == [False, False, True, False, True]
    assert samples[4].arrays(Key.P0_MOTION)["latents"][0, 0] == 4
    pack(Store(root), replace(RECIPE, pack=(Key.MIX,)), clips)
    assert read_index(Store(root)).motion == () and check(Store(root)).ok
    pack(Store(root), RECIPE, [replace(clip, measures=bare) for clip in some[:2]])
    assert read_index(Store(root)).motion == () and check(Store(root)).ok


def test_other_table_is_found(build: tuple[Path, list[Clip]]) -> None:
    root, clips = build
    old = (root / "shards" / "clips.parquet").read_bytes()
    pack(Store(root), RECIPE, [replace(clip, turns=()) if clip is clips[2] else clip for clip in clips[:4]])
    (root / "shards" / "clips.parquet").write_bytes(old)
    report = told(root)
    assert "clip talk_0004 is only in the table" in report and "talk_0002: p0_speaking_share is 0.5" in report


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=8))
def test_union_of_spans(pairs: list[tuple[int, int]]) -> None:
    spans = union([Span.of(start, start + length) for start, length in pairs])
    covered = {second for start, length in pairs for second in range(start, start + length)}
    assert sum(int(span.duration) for span in spans) == len(covered)
    assert all(one.end < two.start for one, two in pairwise(spans))
