"""The fault proxy, between a client and an echo server, over real sockets."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from headgate.simulator.faults import FaultProxy, Faults


@asynccontextmanager
async def proxied():
    async def echo(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1])
    async with proxy:
        yield proxy
    server.close()


async def connected(proxy):
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def read(reader, count, timeout=1.0):
    async with asyncio.timeout(timeout):
        return await reader.readexactly(count)


async def test_passes_bytes_and_counts_them():
    async with proxied() as proxy:
        reader, writer = await connected(proxy)
        writer.write(b"hello")
        assert await read(reader, 5) == b"hello"
        writer.write_eof()
        assert await reader.read() == b""
        assert (proxy.accepted, proxy.bytes_to_server, proxy.bytes_to_client) == (1, 5, 5)
        writer.close()
        await asyncio.sleep(0.02)
        assert proxy.open_links == 0


async def test_latency_and_bandwidth():
    async with proxied() as proxy:
        reader, writer = await connected(proxy)
        with proxy.faulty(to_client=Faults(latency=0.05)):
            before = time.monotonic()
            writer.write(b"x")
            await read(reader, 1)
            assert time.monotonic() - before >= 0.05
        with proxy.faulty(to_server=Faults(bandwidth=1000, slice=10)):
            before = time.monotonic()
            writer.write(b"y" * 60)
            await read(reader, 60)
            assert time.monotonic() - before >= 0.04
        writer.close()


async def test_slicing_makes_small_packets():
    async with proxied() as proxy:
        proxy.to_client = Faults(slice=2, slice_delay=0.005)
        reader, writer = await connected(proxy)
        writer.write(b"abcdef")
        got = [await reader.read(100) for _ in range(3)]
        assert got == [b"ab", b"cd", b"ef"]
        writer.close()


async def test_stall_holds_and_releases():
    async with proxied() as proxy:
        reader, writer = await connected(proxy)
        proxy.stall()
        writer.write(b"late")
        with pytest.raises(TimeoutError):
            await read(reader, 4, 0.05)
        proxy.stall(False)
        assert await read(reader, 4) == b"late"
        writer.close()


@pytest.mark.parametrize("at_limit", ["close", "reset", "half_close", "stall"])
async def test_limit_data_lets_so_much_through(at_limit):
    async with proxied() as proxy:
        proxy.to_client = Faults(limit_data=3, at_limit=at_limit, slice=1)
        reader, writer = await connected(proxy)
        writer.write(b"abcdef")
        if at_limit != "reset":
            assert await read(reader, 3) == b"abc"
        if at_limit == "reset":
            with pytest.raises(ConnectionResetError):
                while await reader.read(100):
                    pass
        elif at_limit == "stall":
            with pytest.raises(TimeoutError):
                await read(reader, 1, 0.05)
        else:
            assert await reader.read() == b""
        writer.close()


async def test_reset_cuts_open_connections():
    async with proxied() as proxy:
        reader, writer = await connected(proxy)
        writer.write(b"x")
        await read(reader, 1)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
        await asyncio.sleep(0.02)
        assert proxy.open_links == 0


async def test_down_refuses_and_up_accepts_on_the_same_port():
    async with proxied() as proxy:
        port = proxy.port
        reader, writer = await connected(proxy)
        writer.write(b"x")
        await read(reader, 1)
        await proxy.down()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await connected(proxy)
        await proxy.up()
        reader, writer = await connected(proxy)
        writer.write(b"y")
        assert await read(reader, 1) == b"y"
        assert proxy.port == port
        writer.close()


async def test_black_hole_accepts_and_swallows():
    async with proxied() as proxy:
        proxy.black_hole = True
        reader, writer = await connected(proxy)
        writer.write(b"x")
        with pytest.raises(TimeoutError):
            await read(reader, 1, 0.05)
        assert proxy.bytes_to_server == 0
        writer.close()
        await asyncio.sleep(0.02)
        assert proxy.open_links == 0  # a client that gives up is forgotten
        reader, writer = await connected(proxy)
        await asyncio.sleep(0.01)
        await proxy.heal()  # swallowed connections are cut, new ones pass
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
        reader, writer = await connected(proxy)
        writer.write(b"y")
        assert await read(reader, 1) == b"y"
        writer.close()


async def test_a_dead_target_resets_the_client():
    proxy = FaultProxy("127.0.0.1", 1)
    async with proxy:
        reader, writer = await connected(proxy)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
