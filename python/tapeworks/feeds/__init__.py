"""Bytes in: the venues' sessions, which put every frame on the raw tape."""
