"""Public sets of conversations in their published layout, brought into our manifest and build."""
