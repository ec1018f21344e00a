"""Composes conversations whose truth is known: pictures and voices of two people become one video with a `truth.json`.

`compose` is what `dyconv synth` calls. `render` is one level lower, for callers that bring their own turns and sound.
The parts: `sound` (voices in, noise, mixing), `schedule` (who speaks when), `motion` (how a head moves), `puppet` (a
photograph that moves), `footage` (a video clip of one speaker), `layouts` (who is where on the screen), `serve` (a
local web server with byte ranges, for trying a download).
"""
