# The front door. Each target is a few lines; the work is in scripts/.
.PHONY: demo test check bench

demo:  ## sets up everything and runs the whole pipeline on simulated exchanges
	@scripts/build polars pandas
	@.venv/bin/tape demo

test:  ## sets up everything and passes the tests
	@scripts/test

check:  ## lint, types, layout and the Rust tests
	@scripts/check

bench:  ## measures beside the peers, in one run
	@scripts/bench
