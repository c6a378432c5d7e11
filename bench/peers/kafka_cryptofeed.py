"""Trades into Kafka by cryptofeed's own backend, as a user of it has them: JSON, at most in order.

It waits for the acknowledgement of each message before it sends the next, keeps no place and uses
no transactions. Argument 1: how many, as a multiple of twenty thousand. The server is a real one.
"""

import asyncio
import json
import sys
import time
from decimal import Decimal
from pathlib import Path

from cryptofeed.backends.kafka import TradeKafka
from cryptofeed.types import Trade

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.services import KafkaService


async def run(address: str, count: int) -> dict[str, float]:
    """Returns messages a second of processor time and of wall clock."""
    trades = [
        Trade(
            *("BINANCE", "BTC-USDT", "buy", Decimal(1 + at % 997) / 1000),
            *(Decimal(60_000 + at % 100), 1_717_718_400.0 + at / 100),
            id=str(at),
        )
        for at in range(count)
    ]
    backend = TradeKafka(bootstrap_servers=address, acks="all")
    backend.start(asyncio.get_running_loop())
    # The first message makes the topic.
    await backend(trades[0], trades[0].timestamp)
    await backend.queue.join()
    began, started = time.perf_counter(), time.process_time()
    for trade in trades:
        await backend(trade, trade.timestamp)
    await backend.queue.join()
    took, wall = time.process_time() - started, time.perf_counter() - began
    await backend.stop()
    return {"value": count / took, "wall": count / wall}


def main() -> None:
    """Publishes all trades."""
    count = max(1_000, int(20_000 * float(sys.argv[1])))
    with KafkaService() as server:
        print(json.dumps(asyncio.run(run(f"127.0.0.1:{server.port}", count))))


main()
