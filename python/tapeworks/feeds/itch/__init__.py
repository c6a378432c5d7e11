"""NASDAQ TotalView-ITCH 5.0: files of whole days, captures of MoldUDP64, and live lines of it."""
