"""`dyconv synth`: compose a conversation whose truth is known."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer


def synth(
    out: Annotated[Path, typer.Option(help="Folder for conversation.mp4, truth.json and the voices.")],
    a: Annotated[Path, typer.Option(help="First person: a photograph with one face, or a clip of one speaker.")],
    b: Annotated[Path, typer.Option(help="Second person, likewise.")],
    a_voice: Annotated[Path | None, typer.Option(help="Recording of the first person's voice.")] = None,
    b_voice: Annotated[Path | None, typer.Option(help="Recording of the second person's voice.")] = None,
    layout: Annotated[str, typer.Option(help="two-shot, side, stacked, pip or cuts.")] = "two-shot",
    cuts: Annotated[str, typer.Option(help="Times of hard cuts in seconds, such as 6.0,12.4 (layout cuts).")] = "",
    shots: Annotated[str, typer.Option(help="What each shot shows, such as two-shot,a,b (layout cuts).")] = "",
    overlap: Annotated[float, typer.Option(help="Share of speech time in which both are heard, 0 to 1.")] = 0.1,
    off_screen: Annotated[Path | None, typer.Option(help="Recording of a third voice that is never seen.")] = None,
    noise: Annotated[str | None, typer.Option(help="white, pink, babble or a sound file, under the speech.")] = None,
    music: Annotated[Path | None, typer.Option(help="A sound file under the speech, looped.")] = None,
    snr: Annotated[float, typer.Option(help="Level of the speech over noise or music, dB.")] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    size: Annotated[str, typer.Option(help="Width x height in pixels, even.")] = "1280x720",
    fps: Annotated[str, typer.Option(help="Frames a second, such as 25 or 30000/1001.")] = "25",
    duration: Annotated[float | None, typer.Option(help="Seconds; if not given, what the shorter voice lasts for.")] = None,
    sound: Annotated[str, typer.Option(help="aac (mp4), flac (mkv) or pcm (mov).")] = "aac",
) -> None:
    """Compose a conversation of two people from photographs and voices, with its truth.json.

    A photograph's mouth follows its voice; it blinks and moves its head. A clip shows its own picture while it speaks and
    quiet frames of it, cross-faded, while it is silent. Turns are laid out from the utterances of the
    two voices, in about the overlap that was asked for; a voice that is too short is used again from its start.
    """
    from dyconv.errors import UsageError
    from dyconv.synth.compose import Options, PersonInput, compose
    from dyconv.truth import read_truth

    if noise and music:
        raise UsageError("noise and music cannot both be under the speech", hint="mix them into one file first")
    width, height = _size(size)
    options = Options(
        layout=layout,
        cuts=_times(cuts),
        shots=tuple(item.strip() for item in shots.split(",") if item.strip()),
        overlap=overlap,
        off_screen=off_screen,
        background=str(music) if music else noise,
        snr_db=snr,
        seed=seed,
        width=width,
        height=height,
        fps=_rate(fps),
        duration=duration,
        sound=sound,
    )
    path = compose(PersonInput(a, a_voice), PersonInput(b, b_voice), out, options)
    truth = read_truth(path)
    typer.echo(f"{path.parent / truth.media}: {truth.duration:.2f} s, {len(truth.turns)} turns, {len(truth.cuts or ())} cuts")
    typer.echo(f"{path}: its truth")


def _size(text: str) -> tuple[int, int]:
    from dyconv.errors import UsageError

    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UsageError(f"a size is width x height such as 1280x720, found {text!r}")
    return int(width), int(height)


def _times(text: str) -> tuple[float, ...]:
    from dyconv.errors import UsageError

    try:
        return tuple(float(item) for item in text.split(",") if item.strip())
    except ValueError as error:
        raise UsageError(f"cuts are seconds such as 6.0,12.4, found {text!r}") from error


def _rate(text: str) -> Fraction:
    from dyconv.errors import UsageError

    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"a frame rate is a number such as 25 or 30000/1001, found {text!r}") from error
