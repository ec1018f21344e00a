"""`dyconv animate`: a portrait moves as the person in a video does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def animate(
    portrait: Annotated[Path, typer.Option(help="Photograph or drawing with a face.")],
    driver: Annotated[Path, typer.Option(help="Video of one person, whose motion and sound are taken.")],
    out: Annotated[Path | None, typer.Option(help="The mp4 to write; PORTRAIT-DRIVER.mp4 if not given.")] = None,
    face: Annotated[
        int | None, typer.Option(min=1, help="Which face of the portrait, from the left; else the largest.")
    ] = None,
    relative: Annotated[bool, typer.Option("--relative/--absolute", help="Add motion to the portrait's own pose.")] = False,
    weights: Annotated[Path | None, typer.Option(help="Folder of your own weights; else those of the project.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda if there is one.")] = None,
) -> None:
    """Write a video of a portrait that moves as the person in another video does, with that video's sound.

    The result is marked in its metadata as synthetic.
    """
    from dyconv.infp.agent import Agent
    from dyconv.infp.films import write_driven
    from dyconv.infp.telling import Telling, about_driver, about_face, about_film, check_files

    out = check_files(out, portrait, driver)
    agent = Agent.load(weights, device=device)
    with Telling("following the driver's face") as told:
        driving = agent.driver(driver, seen=told.step)
    about_driver(driving)
    subject = agent.portrait(portrait, face=face, like=driving)
    about_face(subject.crop, portrait)
    with Telling("animating") as told:
        made = write_driven(agent, subject, driving, out, relative=relative, told=told)
    about_film(made, agent.size)
