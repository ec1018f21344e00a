"""Pictures of clips (`dyconv show`) and the page about a build (`dyconv report`)."""
