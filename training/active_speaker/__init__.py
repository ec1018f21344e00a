"""The active speaker model: does this face speak what is heard, and by how much is the sound shifted."""
