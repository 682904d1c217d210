"""`python -m headgate.simulator [--port N] [--seed N] [--speed X] [--one-port]`: the demo's providers as a process.

Prints one JSON line with the control origin and the base URLs when it answers, and runs until it is told to stop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys

from headgate.simulator.demo import DemoSimulator


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m headgate.simulator", description="Simulated providers.")
    parser.add_argument("--port", type=int, default=0, help="control port (0: any)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster; 0: no delays at all")
    parser.add_argument("--one-port", action="store_true", help="all providers on the control port")
    asyncio.run(_run(parser.parse_args()))


async def _run(options: argparse.Namespace) -> None:
    sim = DemoSimulator(seed=options.seed, speed=options.speed)
    urls = await sim.start(options.port, port_each=not options.one_port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    sys.stdout.write(json.dumps({"control": sim.url, "base_urls": urls}) + "\n")
    sys.stdout.flush()
    await stop.wait()
    await sim.aclose()


if __name__ == "__main__":
    main()
