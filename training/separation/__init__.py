"""Training of `target_tasnet`: two voices out of an overlap, by enrolment and by who speaks when."""
