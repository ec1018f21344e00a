"""`dyconv talk`: a portrait in a conversation of two voices."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Baseline(StrEnum):
    """Ways of generating that the model is compared with."""

    ROLES = "roles"


def talk(
    portrait: Annotated[Path, typer.Option(help="Photograph or drawing with a face.")],
    own: Annotated[Path | None, typer.Option(help="The portrait's own voice; none: it listens.")] = None,
    partner: Annotated[Path | None, typer.Option(help="The voice of whom it talks with; none: it only talks.")] = None,
    out: Annotated[Path | None, typer.Option(help="The mp4 to write; PORTRAIT-VOICES.mp4 if not given.")] = None,
    style: Annotated[Path | None, typer.Option(help="Video of a person whose manner of moving is taken.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same motion.")] = 0,
    guidance: Annotated[float | None, typer.Option(min=0.0, help="How strictly motion follows the voices; 1: plain.")] = None,
    style_guidance: Annotated[float | None, typer.Option(min=0.0, help="How strictly it follows --style.")] = None,
    chunk: Annotated[int | None, typer.Option(min=1, help="Frames generated at once; the model's window if not given.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the sampler.")] = None,
    baseline: Annotated[Baseline | None, typer.Option(help="roles: switch by hand between talking and listening.")] = None,
    face: Annotated[
        int | None, typer.Option(min=1, help="Which face of the portrait, from the left; else the largest.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of your own weights; else those of the project.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda if there is one.")] = None,
) -> None:
    """Write a video of a portrait that talks with its own voice and listens to the partner's.

    Both voices are heard in the result, own left and partner right. It is marked in its metadata as synthetic.
    """
    from dyconv.errors import UsageError
    from dyconv.infp.agent import Agent
    from dyconv.infp.films import Manner, write_talk
    from dyconv.infp.telling import Telling, about_face, about_film, check_files
    from dyconv.infp.voices import open_voice

    if own is None and partner is None:
        raise UsageError("expected a voice, found neither --own nor --partner", hint="give at least one of them")
    out = check_files(out, portrait, own, partner, style)
    voices = [None if path is None else open_voice(path) for path in (own, partner)]
    agent = Agent.load(weights, device=device)
    subject = agent.portrait(portrait, face=face)
    about_face(subject.crop, portrait)
    manner = Manner(
        style=None if style is None else agent.style(style),
        seed=seed,
        guidance=agent.guidance(guidance, style_guidance),
        chunk=chunk,
        steps=steps,
        roles=baseline is Baseline.ROLES,
    )
    with Telling("talking") as told:
        made = write_talk(agent, subject, voices[0], voices[1], out, manner, told=told)
    about_film(made, agent.size)
