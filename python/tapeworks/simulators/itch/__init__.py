"""A simulated NASDAQ: a seeded market at the level of orders, as a file or over MoldUDP64."""
