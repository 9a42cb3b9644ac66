"""HTTP for a server that no client can hold up: none is waited for without end, and whoever is slow gives way."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE = 10.0  # seconds that a client may take to send the head of a request, or to read what it is sent
GRACE = 0.1  # seconds that it has in any case; of many who come at once, none has sent a byte yet
CROWDED = 0.75  # part of the connections there may be; the rest is for those who are being sent away


class Impatient(H11Protocol):
    """One connection, as uvicorn keeps it, with a deadline while the next move is the client's.

    Uvicorn has none: with a byte of a header now and then, a client keeps its connection for ever, and so many clients
    keep all there are. Here, where it is crowded, a new client takes the place of the one that has been asking for the
    longest; whoever has asked is answered. How long a body may take is the application's matter.
    """

    _deadline: asyncio.TimerHandle | None = None
    _since = 0.0  # when the client's move began, by the loop's clock

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a client on, in the place of another one if need be."""
        super().connection_made(transport)
        self._look_at_the_clock()
        if self.limit_concurrency is not None and len(self.connections) > CROWDED * self.limit_concurrency:
            asking = [other for other in self.connections if isinstance(other, Impatient) and other.is_asking()]
            slowest = min(asking, key=lambda other: other._since)
            if slowest._since < self._since - GRACE:
                self.connections.discard(slowest)
                slowest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        self._look_at_the_clock()

    def on_response_complete(self) -> None:
        """Go on with what came meanwhile, if anything did."""
        super().on_response_complete()
        self._look_at_the_clock()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._look_at_the_clock()

    def resume_writing(self) -> None:
        """Go on, as it has read."""
        super().resume_writing()
        self._look_at_the_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        super().connection_lost(exc)
        self._stop_the_clock()

    def is_asking(self) -> bool:
        """Whether the client has not sent all of its request, or has not read what it was sent."""
        return self._is_to_move() or self.cycle.more_body

    def _is_to_move(self) -> bool:
        return self.cycle is None or self.cycle.response_complete or self.flow.write_paused

    def _look_at_the_clock(self) -> None:
        if not self._is_to_move():
            self._stop_the_clock()
        elif self._deadline is None:
            self._since = self.loop.time()
            self._deadline = self.loop.call_later(PATIENCE, self.transport.abort)

    def _stop_the_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
