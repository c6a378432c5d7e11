"""A venue that misbehaves in every way that we could think of, for tests and campaigns."""
