"""`tape verify`: proves that the tapes are whole and unchanged."""
