"""Records in, records out: what runs the core's processors between tapes."""
