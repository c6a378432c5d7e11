"""The simulated Alpaca: streams of stocks and of crypto, and their REST interface."""
