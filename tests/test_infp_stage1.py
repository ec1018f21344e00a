"""INFP Stage 1: what the encoder sees, that its latent is alive from the start, and that files bring back what was saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dyconv.errors import ModelMissing, UsageError
from dyconv.infp.blocks import to_pixels, to_unit
from dyconv.infp.config import STAGE1, Stage1Config
from dyconv.infp.mask import MOUTH, at_size, boxes_of, masked, regions
from dyconv.infp.stage1 import Stage1, encode_frames, load_encoder, load_renderer, load_stage1, save_stage1
from dyconv.models.mesh_motion import MeshMotion
from training.infp.adversary import PatchDiscriminator, adversarial, detecting, feature_matching, r1
from training.infp.losses import decaying, l1, landmark_flow, region_l1, ssim_loss
from training.infp.perceptual import Perceptual
from training.infp.probes import TARGETS, AuxiliaryHeads, Probe, targets_of
from training.infp.stage1_objective import Batch, Objective, Weights

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = STAGE1["debug"]
SIZE = CONFIG.size
_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377)
_OVAL += (152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
_PARTS: tuple[tuple[tuple[int, ...], tuple[int, int, int]], ...] = (
    (_OVAL, (205, 160, 130)),
    ((61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146), (180, 70, 80)),
    ((78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95), (40, 10, 10)),
    ((33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7), (245, 245, 245)),
    ((263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249), (245, 245, 245)),
    ((469, 470, 471, 472), (30, 40, 60)),
    ((474, 475, 476, 477), (30, 40, 60)),
    ((98, 4, 327), (160, 110, 90)),
)


def faces(motions: Sequence[dict[str, float]], size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Drawn faces uint8 [T, size, size, 3], and their landmarks, that move as `mesh` motion says."""
    import cv2

    mesh = MeshMotion()
    values = np.zeros((len(motions), len(mesh.names)), np.float32)
    values[:, list(mesh.names).index("head_scale")] = 0.35
    values[:, list(mesh.names).index("head_y")] = -0.08
    for row, motion in zip(values, motions, strict=True):
        for name, value in motion.items():
            row[list(mesh.names).index(name)] += value
    points = mesh.pose(values, size)
    across = np.linspace(60, 140, size * 4, dtype=np.float32)
    ground = np.stack(np.broadcast_arrays(across, across[:, None], 90.0), axis=-1).astype(np.uint8)
    pictures = []
    for face in points:
        picture = ground.copy()
        for part, colour in _PARTS:
            cv2.fillPoly(picture, [np.rint(face[list(part), :2] * 4).astype(np.int32)], colour)
        pictures.append(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA))
    return np.stack(pictures), points


def batch(pictures: np.ndarray, points: np.ndarray, portraits: Sequence[int], drivers: Sequence[int]) -> Batch:
    shown, hidden = to_unit(torch.from_numpy(pictures)), to_unit(torch.from_numpy(masked(pictures, points)))
    places = torch.from_numpy(points)
    told = torch.from_numpy(targets_of(points[list(drivers)], SIZE))
    where = torch.from_numpy(regions(points[list(drivers)], pictures.shape[1]))
    a, b = list(portraits), list(drivers)
    return Batch(shown[a], hidden[a], places[a], shown[b], hidden[b], places[b], where, told)


OPEN = {"mouth_open": 0.12, "jaw_open": 0.12, "head_yaw": 0.3}
SHUT = {"head_yaw": -0.3}
NEUTRAL = {"mouth_open": 0.03, "jaw_open": 0.03}


def made(seed: int = 0, config: Stage1Config = CONFIG) -> Stage1:
    torch.manual_seed(seed)
    return Stage1(config)


def size_of(module: nn.Module) -> float:
    """Norm of all gradients."""
    return float(torch.stack([part.grad.norm() for part in module.parameters() if part.grad is not None]).norm())


def test_mask_keeps_eyes_and_mouth_and_dots_the_rest() -> None:
    pictures, points = faces([NEUTRAL, OPEN], 256)
    out = masked(pictures, points)
    shown = regions(points, 256).any(axis=1)
    assert np.array_equal(out[shown], pictures[shown])
    rest = out[~shown]
    assert set(np.unique(rest)) == {0, 255}
    assert np.array_equal(rest.min(axis=1), rest.max(axis=1))  # black or white, never a colour
    dots = (rest == 255).all(axis=1).sum() / 2
    assert 150 < dots < 468
    column, row = points[0, 10, :2].astype(int)  # top of the forehead
    assert (out[0, row, column] == 255).all()
    across = np.ptp(points[0, list(MOUTH), 0])
    mouth = boxes_of(points)[0, 0]
    assert mouth[2] - mouth[0] == pytest.approx(1.4 * across, rel=1e-4) and mouth[3] - mouth[1] == pytest.approx(
        mouth[2] - mouth[0]
    )
    assert shown[0].mean() < 0.2


def test_mask_of_a_face_at_the_edge_and_of_nothing() -> None:
    pictures, points = faces([NEUTRAL])
    out = masked(pictures, points + np.array([SIZE * 0.6, 0, 0], np.float32))
    assert (out == 255).any() and out.shape == pictures.shape
    assert not masked(pictures, points + 10 * SIZE).any()
    assert masked(pictures[:0], points[:0]).shape == (0, SIZE, SIZE, 3)


def test_dropped_dots_come_from_the_generator() -> None:
    pictures, points = faces([NEUTRAL], 256)
    whole = (masked(pictures, points) == 255).sum()
    first, again, other = (masked(pictures, points, dropped=0.3, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert 0.6 < (first == 255).sum() / whole < 0.85
    with pytest.raises(ValueError, match="generator"):
        masked(pictures, points, dropped=0.3)


def test_at_size_scales_pictures_and_landmarks_alike() -> None:
    pictures, points = faces([OPEN], 256)
    small, there = at_size(pictures, points, SIZE)
    again, wanted = faces([OPEN], SIZE)
    assert there == pytest.approx(wanted, abs=1e-3)
    assert np.abs(small.astype(int) - again).mean() < 4


def test_latents_are_sums_of_orthonormal_directions() -> None:
    model = made()
    rows = model.encoder.directions()
    assert rows.shape == (CONFIG.directions, CONFIG.latent)
    assert torch.allclose(rows @ rows.T, torch.eye(CONFIG.directions), atol=1e-5)
    masks = torch.rand(3, 3, SIZE, SIZE) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        latents = model.encoder(masks)
    assert latents.shape == (3, CONFIG.latent) and latents.dtype == torch.float32
    assert torch.allclose((latents @ rows.T) @ rows, latents, atol=1e-4)


@torch.inference_mode()
def test_source_once_frames_many() -> None:
    model = made().eval()
    pictures, points = faces([NEUTRAL, OPEN, SHUT])
    shown, hidden = to_unit(torch.from_numpy(pictures)), to_unit(torch.from_numpy(masked(pictures, points)))
    portrait = model.portrait(shown[:1], hidden[:1])
    latents = model.encoder(hidden)
    frames = model.frames(portrait, latents)
    assert frames.shape == (3, 3, SIZE, SIZE) and frames.dtype == torch.float32
    assert frames.abs().max() <= 1
    assert torch.equal(frames, model.frames(portrait, latents))
    one_by_one = torch.cat([model.frames(portrait, latent[None]) for latent in latents])
    assert torch.allclose(frames, one_by_one, atol=1e-4)
    out, _ = model(shown[:1].expand(3, -1, -1, -1), hidden[:1].expand(3, -1, -1, -1), hidden)
    assert torch.allclose(out.picture, frames, atol=1e-4)
    assert tuple(out.flow) == CONFIG.warped and out.flow[32].shape == (3, 32, 32, 2)
    assert np.array_equal(to_pixels(shown).numpy(), pictures)
    with pytest.raises(UsageError, match="found 2"):
        model.frames(model.portrait(shown[:2], hidden[:2]), latents)
    with pytest.raises(UsageError, match="64 x 64"):
        model.portrait(torch.zeros(1, 3, 32, 32), hidden[:1])


def test_reconstruction_reaches_the_encoder_from_the_first_step() -> None:
    pictures, points = faces([NEUTRAL, OPEN, SHUT])
    given = batch(pictures, points, [0, 0], [1, 2])
    for seed in range(3):
        model = made(seed)
        out, latents = model(given.portrait, given.portrait_mask, given.driver_mask)
        l1(out.picture, given.driver).backward()
        assert size_of(model.encoder) > 0.2 * size_of(model.renderer.decoder)
        apart = (latents[0] - latents[1]).norm() / latents.norm(dim=1).mean()
        assert apart > 0.02


def test_a_portrait_learns_to_follow_two_drivers() -> None:
    pictures, points = faces([NEUTRAL, OPEN, SHUT])
    given = batch(pictures, points, [0, 0], [1, 2])
    model, heads = made(), AuxiliaryHeads(CONFIG.latent, CONFIG.directions)
    objective = Objective(Weights(heads_until=50), heads=heads)
    optimiser = torch.optim.Adam([*model.parameters(), *heads.parameters()], 1e-3)
    first: dict[str, Tensor] = {}
    for step in range(120):
        terms, out = objective(model, given, step)
        first = first or terms
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
    assert "heads" in first and "heads" not in terms
    for name in ("l1", "region", "flow"):
        assert terms[name] < first[name] / 2, name
    ours = out.picture.detach()
    for index in range(2):  # nearer to the own driver than to the other's, by far
        own, other = (l1(ours[index], given.driver[which]) for which in (index, 1 - index))
        assert own < other / 2
    assert l1(ours, given.driver) < l1(given.portrait, given.driver) / 2


def test_files_bring_back_what_was_saved(tmp_path: Path) -> None:
    model = made().eval()
    save_stage1(model, tmp_path / "all.safetensors")
    again = load_stage1(tmp_path / "all.safetensors")
    save_stage1(again, tmp_path / "again.safetensors")
    assert (tmp_path / "all.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    assert again.encoder_hash == model.encoder_hash and again.config == CONFIG
    for part in ("encoder", "renderer"):
        save_stage1(model, tmp_path / part, half=True, parts=(part,))
    halves = load_stage1(tmp_path / "encoder", tmp_path / "renderer")
    assert halves.encoder_hash == model.encoder_hash
    masks = torch.rand(2, 3, SIZE, SIZE) * 2 - 1
    with torch.inference_mode():
        assert (halves.encoder(masks) - model.encoder(masks)).abs().max() < 0.02
    with pytest.raises(UsageError, match="encoder it was trained with"):
        load_renderer(tmp_path / "renderer", encoder="0" * 64)
    with pytest.raises(ModelMissing, match="expected encoder"):
        load_encoder(tmp_path / "renderer")


def test_damaged_files_say_what_to_do(tmp_path: Path) -> None:
    save_stage1(made(), path := tmp_path / "model.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelMissing, match=r"training\.train stage1"):
        load_stage1(path)
    with pytest.raises(ModelMissing, match="no readable"):
        load_stage1(tmp_path / "absent.safetensors")
    other = bytearray(whole)
    at = whole.index(made().encoder_hash.encode())
    other[at : at + 8] = b"00000000"
    path.write_bytes(other)
    with pytest.raises(ModelMissing, match="expected weights of encoder 00000000"):
        load_encoder(path)


def test_encoder_hash_names_the_latent_space() -> None:
    model = made()
    before = model.encoder_hash
    assert made().encoder_hash == before != made(1).encoder_hash
    with torch.no_grad():
        next(model.renderer.parameters()).add_(1)
    assert model.encoder_hash == before
    with torch.no_grad():
        model.encoder.stem.weight[0, 0, 0, 0] += 0.1
    assert model.encoder_hash != before


def test_presets_fit_their_files() -> None:
    with torch.device("meta"):
        tiny, base = Stage1(STAGE1["tiny"]), Stage1(STAGE1["base"])
    for part in (tiny.encoder, tiny.renderer):
        assert 2 * sum(value.numel() for value in part.state_dict().values()) < 16e6
    assert sum(value.numel() for value in base.parameters()) > 50e6
    with pytest.raises(UsageError, match="5 channels go with a size of 64"):
        replace(CONFIG, size=128)
    with pytest.raises(UsageError, match="warped"):
        replace(CONFIG, warped=(12,))


def test_encode_frames_is_the_same_in_any_pieces() -> None:
    model = made().eval()
    pictures, points = faces([NEUTRAL, OPEN, SHUT], 128)
    whole = encode_frames(model.encoder, SIZE, pictures, points)
    assert whole.shape == (3, CONFIG.latent) and whole.dtype == np.float32
    assert np.allclose(whole, encode_frames(model.encoder, SIZE, iter(pictures), points, batch=2), atol=1e-4)
    assert encode_frames(model.encoder, SIZE, [], points[:0]).shape == (0, CONFIG.latent)


def test_landmark_flow_is_zero_for_the_flow_that_is_right() -> None:
    centres = (torch.arange(32) + 0.5) / 16 - 1
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)[None]
    driver = torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0)) * 40 + 10
    moved = grid + torch.tensor([4.0, -2.0]) * 2 / SIZE
    right = landmark_flow({32: moved}, driver, driver + torch.tensor([4.0, -2.0]), SIZE)
    wrong = landmark_flow({32: grid}, driver, driver + torch.tensor([4.0, -2.0]), SIZE)
    assert right < 1e-3
    assert wrong == pytest.approx(20**0.5 / SIZE, rel=0.01)


def test_losses_rank_pictures() -> None:
    wanted = to_unit(torch.from_numpy(faces([OPEN])[0]))
    near, far = wanted + 0.02, to_unit(torch.from_numpy(faces([SHUT])[0]))
    assert ssim_loss(wanted, wanted) < 1e-5 < ssim_loss(near, wanted) < ssim_loss(far, wanted)
    places = torch.zeros(1, 3, SIZE, SIZE, dtype=torch.bool)
    places[0, 0, :4, :4] = True
    made_here = wanted.clone()
    made_here[..., 8:] = 0
    assert region_l1(made_here, wanted, places) == 0
    assert region_l1(wanted + 0.5, wanted, places) == pytest.approx(0.5, rel=1e-4)
    assert [decaying(step, 100) for step in (0, 50, 75, 100, 200)] == [1, 1, 0.5, 0, 0]


def test_discriminator_tells_and_is_matched() -> None:
    torch.manual_seed(0)
    judge = PatchDiscriminator((16, 32, 64))
    real, fake = (to_unit(torch.from_numpy(faces([one])[0])) for one in (OPEN, SHUT))
    optimiser = torch.optim.Adam(judge.parameters(), 2e-3)
    before = detecting(judge(fake)[0], judge(real)[0])
    for _ in range(20):
        loss = detecting(judge(fake)[0], judge(real)[0]) + 0.5 * r1(judge, real)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    judge.eval()
    assert detecting(judge(fake)[0], judge(real)[0]) < before
    assert adversarial(judge(real)[0]) < adversarial(judge(fake)[0])
    assert feature_matching(judge(real)[1], judge(real)[1]) == 0
    ours = fake.clone().requires_grad_()
    feature_matching(judge(ours)[1], judge(real)[1]).backward()
    assert ours.grad is not None and ours.grad.abs().sum() > 0


def test_perceptual_loss_never_downloads(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"curl .*vgg19-dcbb9e9d\.pth"):
        Perceptual(tmp_path / "vgg19-dcbb9e9d.pth")
    (tmp_path / "vgg19-dcbb9e9d.pth").write_bytes(b"not those")
    with pytest.raises(ModelMissing, match="sha256 begins with dcbb9e9d"):
        Perceptual(tmp_path / "vgg19-dcbb9e9d.pth")


def test_targets_and_probe() -> None:
    rng = np.random.default_rng(0)
    yaws, opens = rng.uniform(-0.4, 0.4, 80), rng.uniform(0, 0.15, 80)
    mesh = MeshMotion()
    values = np.zeros((80, len(mesh.names)), np.float32)
    values[:, 0], values[:, 5], values[:, list(mesh.names).index("mouth_open")] = yaws, 0.4, opens
    targets = targets_of(mesh.pose(values, 256), 256)
    assert targets.shape == (80, len(TARGETS))
    assert targets[:, 0] == pytest.approx(yaws, abs=0.02)
    assert targets[:, TARGETS.index("mouth_open")] == pytest.approx(opens, abs=0.01)
    latents = np.stack([yaws, rng.standard_normal(80)], axis=1)
    r2 = Probe(latents[:60], targets[:60]).r2(latents[60:], targets[60:])
    assert r2["head_yaw"] > 0.95 and r2["mouth_open"] < 0.2
