"""INFP Stage 2: what it hears decides what it generates, live as offline, and nothing says who speaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dyconv.errors import ModelMissing, UsageError
from dyconv.infp.audio import HubEncoder, MelEncoder, cut_frames
from dyconv.infp.codes import MotionCodes
from dyconv.infp.config import STAGE2
from dyconv.infp.diffusion import Diffusion, Loss
from dyconv.infp.guider import MotionGuider, StyleEncoder
from dyconv.infp.roles import role_weights, switched, turns_of
from dyconv.infp.stage2 import Guidance, Stage2, Window
from dyconv.infp.stream import Stream, join
from dyconv.time import FPS, SAMPLES_PER_FRAME

pytestmark = pytest.mark.usefixtures("one_thread")

LATENT = 3
CONFIG = replace(STAGE2["debug"], latent=LATENT, codes=0, window=16, context=4)
PLAIN = Guidance(1.0, 1.0)


@dataclass(frozen=True)
class Talk:
    """Two voices and one person's motion: first the own loudness, second the partner's, the others waves of no account."""

    motion: Tensor
    own: Tensor
    partner: Tensor


def voice(frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Loudness [T] that comes and goes, and noise [N] as loud."""
    knots = rng.random(frames // 4 + 2) * (rng.random(frames // 4 + 2) > 0.3)
    loudness = np.interp(np.arange(4 * frames) / 16, np.arange(len(knots)), knots)
    sound = 0.3 * rng.standard_normal(frames * SAMPLES_PER_FRAME) * np.repeat(loudness, SAMPLES_PER_FRAME // 4)
    return loudness.reshape(-1, 4).mean(axis=1), sound.astype(np.float32)


def talk(frames: int, seed: int) -> Talk:
    rng = np.random.default_rng(seed)
    (own, own_sound), (partner, partner_sound) = voice(frames, rng), voice(frames, rng)
    waves = 0.3 * np.sin(np.arange(frames)[:, None] / 7 + 6 * rng.random(LATENT - 2))
    motion = np.concatenate([own[:, None], partner[:, None], waves], axis=1).astype(np.float32)
    return Talk(torch.from_numpy(motion), torch.from_numpy(own_sound), torch.from_numpy(partner_sound))


def windows(model: Stage2, talks: list[Talk], size: int, rng: np.random.Generator) -> Window:
    length, context = model.config.window, model.config.context
    rows = []
    for _ in range(size):
        one = talks[rng.integers(len(talks))]
        start = int(rng.integers(context, len(one.motion) - length))
        heard = start - model.before, start + length + model.ahead
        rows.append(
            (
                one.motion[start : start + length],
                cut_frames(one.own, *heard),
                cut_frames(one.partner, *heard),
                one.motion[start - context : start],
                one.motion[rng.integers(0, len(one.motion), 8)],
            )
        )
    motion, own, partner, previous, style = (torch.stack(column) for column in zip(*rows, strict=True))
    yes = torch.ones(size, max(length, 8), dtype=torch.bool)
    return Window(motion, own, partner, previous, yes[:, :context], style, yes[:, :8], yes[:, :length])


def fresh(**changes: Any) -> Stage2:
    torch.manual_seed(0)
    return Stage2(replace(CONFIG, **changes), encoder_hash="abc123").eval()


@pytest.fixture(scope="module")
def learnt() -> Stage2:
    """A model that has seen 120 batches."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    talks = [talk(250, seed) for seed in range(16)]
    model, steps, rate = Stage2(CONFIG), 120, 4e-3
    model.codes.fit(torch.cat([one.motion for one in talks]))
    optimiser = torch.optim.AdamW(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    rng, generator = np.random.default_rng(1), torch.Generator().manual_seed(0)
    for _ in range(steps):
        loss = model.loss(windows(model, talks, 8, rng), generator)
        optimiser.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.eval()


def held_out_loss(model: Stage2, **drops: float) -> Loss:
    """On talks not trained on; the same noise whatever is dropped."""
    batch = windows(model, [talk(150, seed) for seed in range(100, 104)], 48, np.random.default_rng(5))
    kept, model.config = model.config, replace(model.config, **drops)
    with torch.no_grad():
        found = model.loss(batch, torch.Generator().manual_seed(3))
    model.config = kept
    return found


def mean_correlation(made: Tensor, truth: Tensor) -> float:
    """Over talks, of [talks, T] and [talks, T]."""
    return float(np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(made.numpy(), truth.numpy(), strict=True)]))


def test_learns_from_both_voices(learnt: Stage2) -> None:
    heard = held_out_loss(learnt, drop_style=0.0, drop_motion=0.0)
    unheard = held_out_loss(learnt, drop_style=1.0, drop_motion=1.0)
    assert heard.error < 0.75 * unheard.error
    assert heard.velocity < unheard.velocity


def test_generates_what_it_hears_and_the_other_thing_when_voices_are_swapped(learnt: Stage2) -> None:
    talks = [talk(150, seed) for seed in (99, 95, 94)]
    own, partner, motion = (torch.stack([getattr(one, name) for one in talks]) for name in ("own", "partner", "motion"))
    made, swapped = learnt.generate(own, partner, seed=1), learnt.generate(partner, own, seed=1)
    for first in (0, 1):
        truth, other = motion[..., first], motion[..., 1 - first]
        assert mean_correlation(made[..., first], truth) > 0.5
        assert mean_correlation(swapped[..., first], other) > 0.5
        assert abs(mean_correlation(made[..., first], truth.roll(1, 0))) < 0.3  # the motion of other people's sound


def test_same_weights_talk_and_listen(learnt: Stage2) -> None:
    one = talk(100, 97)
    talking, listening = learnt.generate(one.own, None), learnt.generate(None, one.own)
    assert talking[:, 0].mean() > talking[:, 1].mean() + 0.1
    assert listening[:, 1].mean() > listening[:, 0].mean() + 0.1


def test_windows_join_without_a_jump(learnt: Stage2) -> None:
    one = talk(300, 96)
    steps = learnt.generate(one.own, one.partner).diff(dim=0).abs().mean(dim=1)
    joins = steps[CONFIG.window - 1 :: CONFIG.window]
    assert len(joins) == 18
    assert joins.mean() < 2.0 * steps.mean()


def test_join_spreads_a_jump_in_equal_steps() -> None:
    joined = join(torch.zeros(1, 1, 2), torch.full((1, 6, 2), 4.0), 3)
    assert joined[0, :, 0].tolist() == [1.0, 2.0, 3.0, 4.0, 4.0, 4.0]
    assert torch.equal(join(torch.zeros(1, 1, 2), torch.ones(1, 2, 2), 0), torch.ones(1, 2, 2))
    assert join(torch.zeros(1, 1, 2), torch.ones(1, 1, 2), 3).shape == (1, 1, 2)


@pytest.mark.parametrize("samples, frames", [(0, 0), (1, 1), (640, 1), (16 * 640, 16), (40 * 640 + 7, 41)])
def test_any_length_of_sound_gives_its_frames(samples: int, frames: int) -> None:
    model = fresh()
    own = torch.randn(samples, generator=torch.Generator().manual_seed(1))
    made = model.generate(own, None)
    assert made.shape == (frames, LATENT)
    assert made.dtype == torch.float32
    assert torch.isfinite(made).all()
    assert model.generate(None, own.expand(3, -1)).shape == (3, frames, LATENT)
    assert torch.equal(model.generate(own.numpy(), np.zeros(samples, np.float32)), made)


def test_a_seed_repeats_and_another_differs() -> None:
    model, one = fresh(), talk(40, 1)
    made = model.generate(one.own, one.partner, seed=7)
    assert made.numpy().tobytes() == model.generate(one.own, one.partner, seed=7).numpy().tobytes()
    assert not torch.allclose(made, model.generate(one.own, one.partner, seed=8), atol=0.1)


@pytest.mark.parametrize("chunk, piece", [(16, 1000), (5, 640), (5, 12_345)])
def test_live_equals_offline(chunk: int, piece: int) -> None:
    model, one = fresh(), talk(43, 2)
    own, partner = one.own[:-100], one.partner[:-100]
    options: dict[str, Any] = {"seed": 4, "chunk": chunk, "style": one.motion[:9], "previous": one.motion[:2], "eta": 0.5}
    stream = Stream(model, **options)
    late = round(stream.latency * FPS) * SAMPLES_PER_FRAME
    parts, pushed = [], 0
    for start in range(0, len(own), piece):
        parts.append(stream.push(own[start : start + piece], partner[start : start + piece]))
        pushed = min(start + piece, len(own))
        assert sum(map(len, parts)) * SAMPLES_PER_FRAME > pushed - late
    parts.append(stream.finish())
    made = torch.cat(parts)
    assert len(made) == 43
    assert torch.equal(made, model.generate(own, partner, **options))


def test_a_finished_stream_takes_no_more() -> None:
    stream = Stream(fresh(), chunk=1)
    assert stream.push(torch.zeros(640), None).shape == (0, LATENT)
    assert stream.push(None, torch.zeros(1281)).shape == (1, LATENT)
    assert stream.finish().shape == (3, LATENT)
    with pytest.raises(UsageError, match="after finish"):
        stream.push(torch.zeros(1), None)


def test_every_weight_learns_also_in_half_precision() -> None:
    model = fresh()
    batch = windows(model, [talk(60, 1)], 4, np.random.default_rng(0))
    exact = model.loss(batch, torch.Generator().manual_seed(0)).total.detach()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(batch, torch.Generator().manual_seed(0)).total
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(exact), rel=0.02)
    assert not [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]


def test_latency_is_chunk_and_look_ahead() -> None:
    assert Stream(fresh(), chunk=10).latency == pytest.approx(0.48)
    assert Stream(Stage2(STAGE2["debug"])).latency == pytest.approx(3.08)


def test_what_came_before_and_the_style_count() -> None:
    model, one = fresh(), talk(16, 3)
    made = model.generate(one.own, one.partner)
    before = torch.ones(4, LATENT)
    assert not torch.allclose(made, model.generate(one.own, one.partner, previous=before), atol=1e-3)
    assert not torch.allclose(made, model.generate(one.own, one.partner, before), atol=1e-4)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda model: model.generate(None, None), "at least one voice"),
        (lambda model: model.generate(torch.zeros(5), torch.zeros(2, 5)), r"\[2, 5\]"),
        (lambda model: model.generate(torch.zeros(5), None, chunk=17), "1 to 16 frames"),
        (lambda model: model.generate(torch.zeros(5), None, torch.zeros(4, 5)), "style as motion latents"),
        (lambda model: model.generate(torch.zeros(5), None, steps=1001), "1 to 1000 sampling steps"),
        (lambda model: Stream(model).push(torch.zeros(2, 5), None), r"expected samples \[n\]"),
        (lambda model: Stream(model).push(torch.zeros(5), torch.zeros(6)), "5 samples of own and 6"),
        (lambda model: Stream(model, batch=3).push(torch.zeros(2, 5), None), r"expected samples \[3, n\]"),
        (lambda model: Diffusion(10, "square"), "cosine or linear"),
        (lambda model: Diffusion(10, predicts="x"), "noise or v"),
        (lambda model: MotionCodes(4, 5), "5 codes"),
    ],
)
def test_mistakes_are_named(call: Callable[[Stage2], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call(fresh())


def test_memories_learn_from_their_own_voice_only() -> None:
    torch.manual_seed(0)
    guider = MotionGuider(8, 16, 2)
    own, partner = torch.randn(2, 1, 5, 16, requires_grad=True).unbind()
    own.retain_grad(), partner.retain_grad()
    guider.verbal(own, torch.randn(1, 16)).square().sum().backward()
    assert guider.verbal.bank.grad is not None and guider.verbal.bank.grad.abs().sum() > 0
    assert own.grad is not None and own.grad.abs().sum() > 0
    assert guider.nonverbal.bank.grad is None and partner.grad is None
    guider(own.detach(), partner.detach(), torch.randn(1, 16)).square()[..., 0].sum().backward()
    assert guider.nonverbal.bank.grad is not None and guider.nonverbal.bank.grad.abs().sum() > 0


def test_style_modulates_the_memories_and_keeps_their_level() -> None:
    torch.manual_seed(0)
    memory = MotionGuider(64, 32, 2).verbal
    values = memory.styled(memory.bank, torch.tensor([[3.0] * 32, [-3.0] * 32]))
    assert not torch.allclose(values[0], values[1], atol=0.1)
    assert values.std(dim=(1, 2)).tolist() == pytest.approx([1.0, 1.0], abs=0.1)


def test_style_is_of_a_set() -> None:
    torch.manual_seed(0)
    encoder = StyleEncoder(6, 16, 2)
    frames = torch.randn(1, 5, 6)
    style = encoder(frames)
    assert torch.allclose(encoder(frames.flip(1)), style, atol=1e-6)
    padded, mask = torch.cat([frames, torch.randn(1, 3, 6)], dim=1), torch.arange(8)[None] < 5
    assert torch.allclose(encoder(padded, mask), style, atol=1e-6)
    assert torch.equal(encoder(padded, mask & False), encoder.without[None])


def test_audio_features_hear_as_far_as_they_say() -> None:
    torch.manual_seed(0)
    encoder = MelEncoder(80, 16).eval()
    frames = 8
    total = encoder.past + frames + encoder.ahead
    samples = torch.randn(1, total * SAMPLES_PER_FRAME)
    features = encoder(samples)
    assert features.shape == (1, frames, 16)
    middle = encoder(cut_frames(samples, 3, total))  # the same sound, cut elsewhere
    assert torch.allclose(middle, features[:, 3:], atol=1e-5)
    louder = samples.clone()
    louder[..., -SAMPLES_PER_FRAME // 2 :] *= 3
    changed = (encoder(louder) - features).abs().amax(dim=(0, 2)) > 1e-4
    assert not changed[:-1].any() and changed[-1]  # the last half frame of look-ahead is for the last frame only
    with pytest.raises(ValueError, match="whole frames"):
        encoder(samples[..., :-1])


def test_cut_frames_pads_with_silence() -> None:
    track = torch.arange(1, 2 * SAMPLES_PER_FRAME + 1, dtype=torch.float32)
    cut = cut_frames(track, -1, 3)
    assert len(cut) == 4 * SAMPLES_PER_FRAME
    assert torch.equal(cut[SAMPLES_PER_FRAME:-SAMPLES_PER_FRAME], track)
    assert not cut[:SAMPLES_PER_FRAME].any() and not cut[-SAMPLES_PER_FRAME:].any()
    assert not cut_frames(track, 5, 7).any() and len(cut_frames(track, -7, -5)) == 2 * SAMPLES_PER_FRAME


def test_hub_audio_that_is_not_here_names_its_command() -> None:
    with pytest.raises(ModelMissing, match=r"pip install transformers|hf download") as error:
        Stage2(replace(CONFIG, audio_model="facebook/no-such-model"))
    assert "facebook/no-such-model" in str(error.value)


def test_hub_audio_is_used_and_not_stored(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    convolutions = {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**sizes, **convolutions)).save_pretrained(tmp_path / "w2v")
    model = Stage2(replace(CONFIG, audio_model=str(tmp_path / "w2v"))).eval()
    assert isinstance(model.audio, HubEncoder)
    samples = torch.randn(2, (model.audio.past + 9 + model.audio.ahead) * SAMPLES_PER_FRAME)
    features = model.audio(samples)
    assert features.shape == (2, 9, CONFIG.width)
    features.square().sum().backward()
    assert model.audio.layers.grad is not None
    assert sorted(name for name in model.state_dict() if name.startswith("audio.")) == [
        "audio.layers",
        "audio.norm.bias",
        "audio.norm.weight",
        "audio.project.bias",
        "audio.project.weight",
    ]
    model.save(tmp_path / "model.safetensors")
    again, one = Stage2.load(tmp_path / "model.safetensors"), talk(20, 1)
    assert torch.equal(again.generate(one.own, None), model.generate(one.own, None))


def test_a_shorter_window_is_the_same_with_padding_and_mask() -> None:
    model = fresh()
    generator = torch.Generator().manual_seed(0)
    noisy, motion = torch.randn(1, 16, LATENT, generator=generator), torch.randn(1, 20, CONFIG.width, generator=generator)
    previous, known = torch.randn(1, 4, LATENT, generator=generator), torch.tensor([[False, True, True, True]])
    step, mask = torch.tensor([300]), torch.arange(16)[None] < 10
    with torch.no_grad():
        padded = model.denoiser(noisy, step, motion, previous, known, mask)
        short = model.denoiser(noisy[:, :10], step, motion[:, :14], previous, known)
    assert torch.allclose(padded[:, :10], short, atol=1e-5)


def test_loss_does_not_see_behind_the_mask() -> None:
    model = fresh(drop_motion=0.0, drop_style=0.0)
    batch = windows(model, [talk(60, 1)], 2, np.random.default_rng(0))
    batch = replace(batch, mask=torch.arange(16).expand(2, -1) < torch.tensor([[16], [7]]))
    other = batch.motion.clone()
    other[1, 7:] = 50.0
    losses = [model.loss(one, torch.Generator().manual_seed(1)).total.detach() for one in (batch, replace(batch, motion=other))]
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-5)


def test_guidance_is_the_sum_it_says() -> None:
    model, one = fresh(), talk(16, 1)
    sound = [cut_frames(track[None], -model.before, 16 + model.ahead) for track in (one.own, one.partner)]
    style = model.style_vector(one.motion[:5])
    noisy, step = torch.randn(1, 16, LATENT, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    previous, known = one.motion[None, :4], torch.ones(1, 4, dtype=torch.bool)

    def noise(motion: float, manner: float, with_style: bool = True) -> Tensor:
        guidance = Guidance(motion, manner)
        return model.predictor(*sound, style if with_style else None, previous, known, guidance)(noisy, step)

    with torch.no_grad():
        assert style is not None
        plain = model.denoiser(noisy, step, model.motion(*sound, style), previous, known)
        assert torch.allclose(noise(1, 1), plain, atol=1e-6)
        unstyled = model.denoiser(noisy, step, model.motion(*sound, model.style.without[None]), previous, known)
        assert torch.allclose(noise(1, 0), unstyled, atol=1e-6)
        assert torch.allclose(noise(1, 5, with_style=False), unstyled, atol=1e-6)
        alone = noise(0, 0)
        assert not torch.allclose(alone, unstyled, atol=1e-3)
        expected = alone + 2 * (unstyled - alone) + 3 * (plain - unstyled)
        assert torch.allclose(noise(2, 3), expected, atol=1e-4)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("predicts", ["noise", "v"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_sampler_returns_to_a_gaussian_it_is_told_of(schedule: str, predicts: str, eta: float) -> None:
    """With the best possible prediction for N(mean, spread^2), samples have that mean and spread."""
    mean, spread = torch.tensor([1.0, -0.5]), torch.tensor([0.5, 1.2])
    diffusion = Diffusion(1000, schedule, predicts)

    def best(noisy: Tensor, step: Tensor) -> Tensor:
        kept = diffusion.kept[step][:, None, None]
        centred = (noisy - kept.sqrt() * mean) / (kept * spread**2 + 1 - kept)
        noise = (1 - kept).sqrt() * centred
        clean = mean + kept.sqrt() * spread**2 * centred
        return noise if predicts == "noise" else kept.sqrt() * noise - (1 - kept).sqrt() * clean

    found = diffusion.sample(best, (4000, 1, 2), torch.Generator().manual_seed(0), steps=200, eta=eta).flatten(0, 1)
    assert found.mean(dim=0).tolist() == pytest.approx(mean.tolist(), abs=0.08)
    assert found.std(dim=0).tolist() == pytest.approx(spread.tolist(), rel=0.1)
    start = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    kept = np.corrcoef(start[:, 0], found[:, 0])[0, 1]  # of the noise it began with
    assert kept > 0.99 if eta == 0 else abs(kept) < 0.1


def test_best_prediction_has_the_least_loss() -> None:
    diffusion, clean = Diffusion(), torch.full((256, 3, 1), 2.0)  # a distribution of one point

    def best(noisy: Tensor, step: Tensor) -> Tensor:
        kept = diffusion.kept[step][:, None, None]
        return (noisy - kept.sqrt() * 2.0) / (1 - kept).sqrt()

    found = diffusion.loss(best, clean, torch.Generator().manual_seed(0), velocity=1.0)
    assert float(found.total) < 1e-6
    found = diffusion.loss(lambda noisy, step: 0 * noisy, clean, torch.Generator().manual_seed(0))
    assert float(found.error) == pytest.approx(1.0, abs=0.15)


def test_twenty_directions_are_twenty_codes() -> None:
    torch.manual_seed(0)
    directions = torch.linalg.qr(torch.randn(64, 20))[0]
    latents = (torch.randn(500, 20) * torch.linspace(0.1, 3.0, 20)) @ directions.T + 5.0
    codes = MotionCodes(64, 20)
    assert codes.fit(latents) == pytest.approx(1.0)
    found = codes.encode(latents)
    assert found.std(dim=0).tolist() == pytest.approx([1.0] * 20, abs=0.01)
    assert torch.allclose(codes.decode(found), latents, atol=1e-4)
    few = MotionCodes(64, 5)
    assert 0.3 < few.fit(latents) < 0.7
    every = MotionCodes(64)
    every.fit(latents)
    assert torch.allclose(every.decode(every.encode(latents)), latents, atol=1e-4)
    with pytest.raises(UsageError, match="differ in nothing"):
        codes.fit(torch.ones(9, 64))


def test_weights_come_back_with_their_config_and_hash(tmp_path: Path) -> None:
    model, one = fresh(), talk(20, 1)
    model.codes.fit(one.motion)
    model.save(tmp_path / "model.safetensors")
    again = Stage2.load(tmp_path / "model.safetensors", encoder_hash="abc123")
    assert (again.config, again.encoder_hash) == (model.config, "abc123")
    assert torch.equal(again.generate(one.own, one.partner), model.generate(one.own, one.partner))
    model.save(tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "model.safetensors").stat().st_size
    halved = Stage2.load(tmp_path / "half.safetensors")
    assert torch.allclose(halved.generate(one.own, None), model.generate(one.own, None), atol=0.05)
    with pytest.raises(UsageError, match=r"of encoder abc123.*encoder 99 is in use"):
        Stage2.load(tmp_path / "model.safetensors", encoder_hash="99")


def test_files_that_are_no_such_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(ModelMissing, match="no readable safetensors"):
        Stage2.load(path)
    path.write_bytes(b"x" * 99)
    with pytest.raises(ModelMissing, match="no readable safetensors"):
        Stage2.load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelMissing, match="something else"):
        Stage2.load(path)
    header = {"format": "dyconv.infp.stage2", "config": CONFIG.to_json()}
    save_file({"a": torch.zeros(1)}, path, {"dyconv": json.dumps(header)})
    with pytest.raises(ModelMissing, match="weights of its own config"):
        Stage2.load(path)
    save_file({"a": torch.zeros(1)}, path, {"dyconv": json.dumps(header | {"config": CONFIG.to_json() | {"wings": 2}})})
    with pytest.raises(UsageError, match="wings"):
        Stage2.load(path)


def test_tiny_is_small_and_base_is_not() -> None:
    sizes = {name: sum(value.numel() for value in Stage2(STAGE2[name]).parameters()) for name in ("tiny", "base")}
    assert 2 * sizes["tiny"] <= 16e6
    assert sizes["base"] > 40e6


def test_roles_switch_by_who_talks() -> None:
    model, one = fresh(), talk(40, 1)
    own, partner = one.own.numpy(), one.partner.numpy()
    talking = np.arange(40) >= 20
    made = switched(model, own, partner, talking=talking, seed=3)
    passes = model.generate(own, None, seed=3), model.generate(None, partner, seed=3)
    assert torch.allclose(made[:18], passes[1][:18])
    assert torch.allclose(made[22:], passes[0][22:])
    assert role_weights(talking)[17:23].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0], abs=1e-6)
    assert np.array_equal(role_weights(talking, fade=0), talking)
    with pytest.raises(UsageError, match="do not fit"):
        switched(model, own, partner, talking=talking[:9])
    silent = np.zeros_like(own)
    assert torch.allclose(switched(model, silent, partner, seed=3), passes[1])


def test_turns_are_where_somebody_is_heard() -> None:
    spec = find_spec("pyannote.audio")
    assert spec is not None and spec.origin is not None
    import soundfile

    speech, rate = soundfile.read(Path(spec.origin).parent / "sample" / "sample.wav", dtype="float32")
    assert rate == 16_000
    turns = turns_of(np.concatenate([np.zeros(2 * rate, np.float32), speech[7 * rate : 13 * rate]]))
    assert not turns[: 2 * FPS - 3].any()
    assert turns[2 * FPS :].mean() > 0.5
