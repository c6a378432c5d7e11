"""A program with mistakes in all lines that end in `# wrong`: type checkers must name them."""

import tapeworks as tw

tw.open("demo", external_acces=True)  # wrong
tw.opne("demo")  # wrong
lake = tw.open("demo")
lake.trdes("BTCUSDT")  # wrong
lake.trades(5.0)  # wrong
lake.trades("BTCUSDT", 3.5)  # wrong
lake.book(["BTCUSDT"])  # wrong
lake.book("BTCUSDT", clock="evnt")  # wrong
lake.trades("BTCUSDT").to_polars(floats="yes")  # wrong
print(lake.book("BTCUSDT").bids[0][0] + 0.5)  # wrong
