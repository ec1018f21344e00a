"""A page to hear and see a clip: video, waveforms of each track, turns with their confidence. See `dyconv listen`."""
