"""Fifty questions of research, each answered by the Python API, by SQL, and without either."""
