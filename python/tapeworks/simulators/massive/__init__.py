"""The simulator of Massive: its markets, its sessions, and its REST interface."""
