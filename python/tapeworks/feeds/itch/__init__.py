"""NASDAQ TotalView-ITCH 5.0: files of whole days, and captures of MoldUDP64."""
