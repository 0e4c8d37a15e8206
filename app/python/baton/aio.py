"""The calls of baton for programs on asyncio.

    router = await baton.aio.RoutingApplication.register("router", "198.18.9.1", [80])

    async def route(reader, writer):
        request = await reader.readuntil(b"\\r\\n\\r\\n")
        await router.transfer((reader, writer), "pages@t1", give_back=request)

    await asyncio.start_server(route, "198.18.9.1", 80, limit=16384)

Connections are sockets, streams or transports. A call that is cancelled is given up, but a transfer goes on to its end.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, List, Literal, Optional, Sequence, Set, Tuple, Type, TypeVar, Union

from . import _baton

if TYPE_CHECKING:
    from asyncio.trsock import TransportSocket

    from _typeshed import ReadableBuffer

__all__ = ["Application", "Offer", "RoutingApplication", "TargetApplication"]

Streams = Tuple[asyncio.StreamReader, asyncio.StreamWriter]
Transferable = Union[socket.socket, asyncio.Transport, Streams]
Unacknowledged = Union[Literal["refuse", "carry"], float]
Address = Union[Tuple[str, int], Tuple[str, int, int, int]]
Listener = Union[socket.socket, "TransportSocket"]

_T = TypeVar("_T")
_A = TypeVar("_A", bound="Application")
_P = TypeVar("_P", bound=asyncio.BaseProtocol)

# Seconds after which it is looked again at what nobody tells of.
_LOOK_AGAIN = 0.005
# Seconds that a thread may wait on behalf of a call that was cancelled.
_STEP = 1.0


async def _in_thread(call: Callable[..., _T], *arguments: Any, **named: Any) -> _T:
    """Has a call that blocks made by a thread of its own, which does not keep the interpreter from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(result: Any, error: Optional[BaseException]) -> None:
        if not future.done():
            future.set_exception(error) if error else future.set_result(result)
        elif hasattr(result, "close"):
            result.close()  # nobody waits for it any longer

    def run() -> None:
        result, failure = None, None
        try:
            result = call(*arguments, **named)
        except BaseException as error:
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:
            pass  # the loop is closed: there is nobody to tell

    threading.Thread(target=run, name="baton call", daemon=True).start()
    return await future


def _buffered(reader: asyncio.StreamReader) -> bytes:
    """Takes what a stream has read ahead, without waiting."""
    pieces = []
    while True:
        reading = reader.read(1 << 20)
        try:
            reading.send(None)
        except StopIteration as read:
            if not read.value:
                break  # the end
            pieces.append(read.value)
        else:
            reading.close()  # it would wait
            break
    return b"".join(pieces)


class _Held:
    """A connection of asyncio's that nothing is read from or written to while it moves."""

    def __init__(self, connection: Union[asyncio.Transport, Streams]) -> None:
        self._reader: Optional[asyncio.StreamReader] = None
        if isinstance(connection, tuple):
            self._reader, writer = connection
            transport: Any = writer.transport
        else:
            transport = connection
            if not hasattr(transport, "get_protocol"):
                raise TypeError("pass a socket, a transport, or the pair (reader, writer)")
            if isinstance(transport.get_protocol(), asyncio.StreamReaderProtocol):
                raise TypeError("pass (reader, writer): the reader may have read ahead")
        if transport.get_extra_info("sslcontext") is not None:
            raise TypeError("a TLS connection can't move: its keys are this program's")
        self._transport: asyncio.Transport = transport
        self._unread = b""

    async def hold(self) -> Tuple[int, bytes]:
        """Its descriptor, and what was read ahead."""
        self._transport.pause_reading()
        while self._transport.get_write_buffer_size() > 0 and not self._transport.is_closing():
            await asyncio.sleep(_LOOK_AGAIN)
        if self._transport.is_closing():
            raise ValueError("the transport is closing: pass an open one")
        if self._reader is not None:
            self._unread = _buffered(self._reader)
            self._transport.pause_reading()  # reading may have resumed it
        return self._transport.get_extra_info("socket").fileno(), self._unread

    async def moved(self) -> None:
        self._transport.abort()  # sends nothing: the connection is elsewhere
        await asyncio.sleep(0)

    def stays(self) -> None:
        if self._reader is not None and self._unread:
            self._reader.feed_data(self._unread)
        if not self._transport.is_closing():
            self._transport.resume_reading()


class Application:
    """An application that the agent knows; see baton.Application. Made by register()."""

    def __init__(self, application: _baton.Application) -> None:
        self._application = application
        self._descriptor: Optional[int] = None
        self._waiting: Set[asyncio.Future[None]] = set()

    async def targets(self, port: int) -> List[str]:
        """The targets of one of its ports now, sorted, as "job@stack"."""
        return await _in_thread(self._application.targets, port)

    async def targets_beyond(self, port: int, known: Sequence[str]) -> List[str]:
        """The targets once they are not `known` any longer."""
        while True:
            now = await _in_thread(self._application.targets_beyond, port, known, _STEP)
            if now != list(known):
                return now

    async def choose(
        self, port: int, client: Address, *jobs: str, besides: Optional[Sequence[str]] = None
    ) -> str:
        """As baton.Application.choose()."""
        return await _in_thread(self._application.choose, port, client, *jobs, besides=besides)

    async def target_views(self, port: int) -> List[_baton.TargetView]:
        """As baton.Application.target_views()."""
        return await _in_thread(self._application.target_views, port)

    async def transfer(
        self,
        connection: Transferable,
        target: str,
        *,
        state: Optional[ReadableBuffer] = None,
        unacknowledged: Optional[Unacknowledged] = None,
        give_back: Optional[ReadableBuffer] = None,
    ) -> None:
        """As baton.Application.transfer(), of a socket, a transport, or the pair (reader, writer).

        What was written is sent first; what the reader has read ahead is given back too, behind `give_back`. The two together are
        at most 32 KiB: a reader made with limit=16384 does not read more ahead. Nothing may be written meanwhile. Then the
        transport is closed, and its protocol is told by connection_lost(None). If the connection does not move, it can be read and
        written as before.
        """
        await self._moved(connection, target, True, state, unacknowledged, give_back)

    async def give_connection(
        self,
        connection: Transferable,
        target: str,
        *,
        state: Optional[ReadableBuffer] = None,
        unacknowledged: Optional[Unacknowledged] = None,
        give_back: Optional[ReadableBuffer] = None,
    ) -> None:
        """As transfer(), without asking the target, which takes it with take_connection()."""
        await self._moved(connection, target, False, state, unacknowledged, give_back)

    async def complete(
        self,
        connection: Transferable,
        *,
        state: Optional[ReadableBuffer] = None,
        unacknowledged: Optional[Unacknowledged] = None,
        give_back: Optional[ReadableBuffer] = None,
    ) -> None:
        """The client's transaction is complete: moves the connection to the routing application of its DVIPA and port."""
        await self._moved(connection, None, True, state, unacknowledged, give_back)

    async def next_offer(self) -> Offer:
        """The next connection that is offered."""
        return Offer(await self._next(self._application.next_offer))

    async def take_connection(self) -> _baton.Connection:
        """The next connection that was given to this application without asking it; its socket does not block."""
        taken = await self._next(self._application.take_connection)
        taken.socket.setblocking(False)
        return taken

    async def say(
        self, port: int, target: str, message: ReadableBuffer, *, client: Optional[Tuple[str, int]] = None
    ) -> None:
        """As baton.Application.say()."""
        await _in_thread(self._application.say, port, target, message, client=client)

    async def hear(self) -> _baton.Heard:
        """What another application says next. Messages are kept from the first call on; what came before is lost."""
        return await self._next(self._application.hear)

    def close(self) -> None:
        """Ends the registration. Calls that wait raise ValueError, and iterating ends."""
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._descriptor = None
        self._application.close()
        self._wake()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._application.closed

    async def __aenter__(self: _A) -> _A:
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def __aiter__(self: _A) -> _A:
        return self

    async def __anext__(self) -> Offer:
        try:
            return await self.next_offer()
        except ValueError:
            if self.closed:
                raise StopAsyncIteration from None
            raise

    async def _moved(
        self,
        connection: Transferable,
        target: Optional[str],
        asks: bool,
        state: Optional[ReadableBuffer],
        unacknowledged: Optional[Unacknowledged],
        give_back: Optional[ReadableBuffer],
    ) -> None:
        async def moved() -> None:
            if isinstance(connection, socket.socket):
                terms = dict(state=state, unacknowledged=unacknowledged, give_back=give_back)
                await _in_thread(self._application._move, connection.fileno(), target, asks, **terms)
                os.close(connection.detach())
                return
            held = _Held(connection)
            try:
                descriptor, unread = await held.hold()
                given_back = unread if give_back is None else bytes(memoryview(give_back)) + unread
                terms = dict(state=state, unacknowledged=unacknowledged, give_back=given_back)
                await _in_thread(self._application._move, descriptor, target, asks, **terms)
            except BaseException:
                held.stays()
                raise
            await held.moved()

        # Cancelled or not, it is known at the end who has the connection.
        await asyncio.shield(asyncio.ensure_future(moved()))

    async def _next(self, look: Callable[[float], Optional[_T]]) -> _T:
        while True:
            found = look(0)
            if found is not None:
                return found
            await self._until_readable()
            found = look(0)
            if found is not None:
                return found
            # It was for another call.
            await asyncio.sleep(_LOOK_AGAIN)

    async def _until_readable(self) -> None:
        loop = asyncio.get_running_loop()
        if self._descriptor is None:
            self._descriptor = self._application.fileno()
            loop.add_reader(self._descriptor, self._wake)
        future = loop.create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)
            if not self._waiting and self._descriptor is not None:
                loop.remove_reader(self._descriptor)
                self._descriptor = None

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


class RoutingApplication(Application):
    """Talks to clients first and decides where each connection goes."""

    @classmethod
    async def register(
        cls,
        job: str,
        dvipa: str,
        ports: Sequence[int],
        *,
        listener: Optional[Listener] = None,
        socket: Union[str, os.PathLike[str], None] = None,
    ) -> RoutingApplication:
        """As baton.RoutingApplication(); `listener` may be a server's TransportSocket too."""
        named = dict(listener=listener, socket=socket)
        return cls(await _in_thread(_baton.RoutingApplication, job, dvipa, ports, **named))


class TargetApplication(Application):
    """Connections are transferred to it."""

    @classmethod
    async def register(
        cls,
        job: str,
        dvipa: str,
        ports: Sequence[int],
        *,
        hold_accepts: bool = False,
        listener: Optional[Listener] = None,
        socket: Union[str, os.PathLike[str], None] = None,
    ) -> TargetApplication:
        """As baton.TargetApplication(); `listener` may be a server's TransportSocket too."""
        named = dict(hold_accepts=hold_accepts, listener=listener, socket=socket)
        return cls(await _in_thread(_baton.TargetApplication, job, dvipa, ports, **named))


class Offer:
    """A connection that is offered: answer it once. One that is forgotten is rejected."""

    def __init__(self, offer: _baton.Offer) -> None:
        self._offer = offer

    @property
    def client(self) -> Tuple[str, int]:
        """(address, port) of the client."""
        return self._offer.client

    @property
    def dvipa(self) -> Tuple[str, int]:
        """(address, port) that the client has connected to."""
        return self._offer.dvipa

    @property
    def job(self) -> str:
        """The job that it is for."""
        return self._offer.job

    @property
    def giver(self) -> Optional[str]:
        """The application that has it now, as "job@stack", or None if it is not known."""
        return self._offer.giver

    @property
    def state(self) -> Optional[bytes]:
        """The application state that came with it, or None."""
        return self._offer.state

    async def accept(self) -> socket.socket:
        """Takes the connection, and waits until it is here: its socket, which does not block."""
        sock = await _in_thread(self._offer.accept)
        sock.setblocking(False)
        return sock

    async def accept_streams(self, limit: int = 16384) -> Streams:
        """As accept(): its streams. With this limit what the reader reads ahead can be given back when it moves on."""
        return await asyncio.open_connection(sock=await self.accept(), limit=limit)

    async def accept_protocol(self, protocol: Callable[[], _P]) -> Tuple[asyncio.Transport, _P]:
        """As accept(): its transport, with a protocol as of a server."""
        loop: Any = asyncio.get_running_loop()
        transport, made = await loop.connect_accepted_socket(protocol, await self.accept())
        return transport, made

    async def reject(self, reason: str) -> None:
        """Does not take it; the reason reaches the application that has it."""
        await _in_thread(self._offer.reject, reason)
