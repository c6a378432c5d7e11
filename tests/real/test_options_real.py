"""Option contracts as a vendor's reference interface gives them: symbols and fields agree."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import tapeworks as tw


def test_symbols_of_recorded_contracts_say_what_the_vendor_says_of_them(real_data: Path):
    lines = (real_data / "polygon" / "client_python_rest_mocks.jsonl").read_text().splitlines()
    contracts = []
    for answer in map(json.loads, lines):
        if answer["path"].startswith("/v3/reference/options/contracts"):
            found = json.loads(answer["body_text"], parse_float=Decimal)["results"]
            contracts += found if isinstance(found, list) else [found]
    for one in contracts:
        said = tw.option(one["ticker"])
        assert said.right == one["contract_type"], one
        assert said.expiry == date.fromisoformat(one["expiration_date"]), one
        assert said.strike == one["strike_price"], one
        assert said.underlying == one["underlying_ticker"], one
    assert len(contracts) > 10
