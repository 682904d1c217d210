"""A TCP proxy that misbehaves on command: between the gateway and a provider, PostgreSQL or Valkey.

Each direction has its own `Faults`, which may be changed at any time and apply to bytes that come from then on, on open
connections too. Connections as a whole are refused (`down`), swallowed (`black_hole`) or cut (`reset`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import msgspec

from headgate.core.clock import SYSTEM, Clock
from headgate.simulator.listener import Listener, linger_zero

_PIECE = 65536


class Faults(msgspec.Struct):
    """What happens to the bytes of one direction. Everything off by default.

    latency      seconds added before each piece that was read
    bandwidth    bytes per second
    slice        pieces of at most so many bytes, each its own write, `slice_delay` seconds apart
    limit_data   after so many bytes of a connection, `at_limit` happens: close (FIN both ways), reset, half_close
                 (FIN in this direction only) or stall (nothing passes any more, the connection stays)
    stalled      nothing passes while True; what waits passes when it is False again
    """

    latency: float = 0
    bandwidth: float = 0
    slice: int = 0
    slice_delay: float = 0
    limit_data: int | None = None
    at_limit: str = "close"
    stalled: bool = False


class FaultProxy:
    """Forwards to `host:port` from a port of its own. `to_server` and `to_client` are its two directions."""

    def __init__(self, host: str, port: int, *, clock: Clock = SYSTEM) -> None:
        self.target = (host, port)
        self.to_server = Faults()
        self.to_client = Faults()
        self.black_hole = False
        self.accepted = 0
        self.bytes_to_server = 0
        self.bytes_to_client = 0
        self.clock = clock
        self._listener = Listener(self._protocol)
        self._links: set[_Link] = set()
        self._changed = asyncio.Event()

    # -- life -----------------------------------------------------------------------------------------------------
    async def start(self, port: int = 0) -> int:
        """Listens; returns the port."""
        return await self._listener.start(port)

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def open_links(self) -> int:
        return len(self._links)

    async def aclose(self) -> None:
        self._listener.close()
        links = list(self._links)
        for link in links:
            link.abort()
        await asyncio.gather(*(link.ended.wait() for link in links))

    async def __aenter__(self) -> FaultProxy:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- control --------------------------------------------------------------------------------------------------
    async def down(self, *, reset: bool = True) -> None:
        """Connecting is refused from now on; open connections are reset, or left as they are."""
        await self._listener.refuse()
        if reset:
            self.reset()

    async def up(self) -> None:
        await self._listener.accept_again()

    def reset(self) -> None:
        """RST to both ends of every open connection."""
        for link in list(self._links):
            link.abort()

    def stall(self, stalled: bool = True) -> None:
        """Nothing passes in either direction, or passes again."""
        self.to_server.stalled = self.to_client.stalled = stalled
        self.changed()

    def changed(self) -> None:
        """To be called after `stalled` was set by hand: wakes what waits."""
        waiting, self._changed = self._changed, asyncio.Event()
        waiting.set()

    async def heal(self) -> None:
        """Every fault off, connecting possible. Connections that were stalled at a limit are reset."""
        self.to_server, self.to_client, self.black_hole = Faults(), Faults(), False
        self.changed()
        for link in list(self._links):
            if link.doomed:
                link.abort()
        await self.up()

    @contextlib.contextmanager
    def faulty(self, *, to_server: Faults | None = None, to_client: Faults | None = None) -> Iterator[FaultProxy]:
        """These faults while the block runs."""
        before = self.to_server, self.to_client
        self.to_server, self.to_client = to_server or before[0], to_client or before[1]
        try:
            yield self
        finally:
            self.to_server, self.to_client = before
            self.changed()

    # -- forwarding -----------------------------------------------------------------------------------------------
    def _protocol(self) -> asyncio.BaseProtocol:
        reader = asyncio.StreamReader(limit=_PIECE)
        return asyncio.StreamReaderProtocol(reader, self._accept)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            link.ended.set()

    async def pass_gate(self, to_server: bool) -> None:
        """Returns when the direction is not stalled."""
        while (self.to_server if to_server else self.to_client).stalled:
            await self._changed.wait()


class _Link:
    """One client connection and its connection to the target."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = (reader, writer)
        self._server: asyncio.StreamWriter | None = None
        self._aborted = asyncio.Event()
        self.ended = asyncio.Event()
        self.doomed = proxy.black_hole

    def abort(self) -> None:
        self._aborted.set()
        for writer in (self._client[1], self._server):
            if writer is not None:
                linger_zero(writer.transport)
                writer.transport.abort()

    async def run(self) -> None:
        reader, writer = self._client
        if self.doomed:
            await self._swallow(reader)
            return
        try:
            server_reader, self._server = await asyncio.open_connection(*self._proxy.target, limit=_PIECE)
        except OSError:
            self.abort()
            return
        pumps: set[asyncio.Future[str]] = {
            asyncio.ensure_future(self._pump(reader, self._server, True)),
            asyncio.ensure_future(self._pump(server_reader, writer, False)),
        }
        aborted: asyncio.Future[str] = asyncio.ensure_future(self._when_aborted())
        try:
            while pumps and not self._aborted.is_set():
                done, pending = await asyncio.wait({*pumps, aborted}, return_when=asyncio.FIRST_COMPLETED)
                pumps = pending - {aborted}
                if any(pump.result() == "broken" for pump in done):
                    self.abort()
                if self.doomed and len(pumps) == 1 and not any(pump.result() == "limit" for pump in done):
                    break  # one side left; the other is stalled for ever
        finally:
            for task in (*pumps, aborted):
                task.cancel()
            await asyncio.gather(*pumps, aborted, return_exceptions=True)
            for end in (writer, self._server):
                end.close()

    async def _when_aborted(self) -> str:
        await self._aborted.wait()
        return "aborted"

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        """Reads and answers nothing until the client leaves."""
        aborted = asyncio.ensure_future(self._aborted.wait())
        try:
            while not self._aborted.is_set():
                reading = asyncio.ensure_future(reader.read(_PIECE))
                await asyncio.wait({reading, aborted}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                elif reading.exception() is not None or not reading.result():
                    break
        finally:
            aborted.cancel()
            self._client[1].close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_server: bool) -> str:
        """Until the reader ends ("eof"), a limit was reached ("limit") or either side broke ("broken")."""
        passed = 0
        try:
            while data := await reader.read(_PIECE):
                await self._proxy.pass_gate(to_server)
                faults = self._proxy.to_server if to_server else self._proxy.to_client
                if faults.latency:
                    await self._proxy.clock.sleep(faults.latency)
                limit = faults.limit_data
                room = len(data) if limit is None else max(0, limit - passed)
                await self._write(writer, data[:room], faults, to_server)
                passed += min(room, len(data))
                if room < len(data) or (limit is not None and passed >= limit):
                    return await self._at_limit(faults.at_limit, writer)
            if writer.can_write_eof():
                writer.write_eof()
        except (ConnectionError, OSError):
            return "broken"
        return "eof"

    async def _write(self, writer: asyncio.StreamWriter, data: bytes, faults: Faults, to_server: bool) -> None:
        size = faults.slice or len(data) or 1
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            writer.write(piece)
            await writer.drain()
            if to_server:
                self._proxy.bytes_to_server += len(piece)
            else:
                self._proxy.bytes_to_client += len(piece)
            wait = faults.slice_delay + (len(piece) / faults.bandwidth if faults.bandwidth else 0)
            await (self._proxy.clock.sleep(wait) if wait else asyncio.sleep(0))

    async def _at_limit(self, what: str, writer: asyncio.StreamWriter) -> str:
        match what:
            case "reset":
                return "broken"
            case "half_close":
                writer.write_eof()
            case "stall":
                self.doomed = True
                await self._aborted.wait()
            case _:
                writer.close()
                other = self._server if writer is self._client[1] else self._client[1]
                if other is not None:
                    other.close()
        return "limit"
