"""Model slots, the registry that fills them, and the wrappers around each model."""
