"""Who speaks when: decoding evidence over time, voices, turns, and how much of one voice is left in another's track."""
