"""Records leaving for other systems: one file a technology, loaded only when a config names it."""
