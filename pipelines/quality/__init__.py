"""What `make quality` does: conversations of people no model saw, through the real recipe, scored against their truth.

`identities` says who there is, `scenes` which conversations, `composing` makes them, `building` runs the recipe,
`measuring` scores each, `totals` adds up and compares with what is wanted, `extras` are measures on recordings that
were not composed, `telling` writes tables.
"""
