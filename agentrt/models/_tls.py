"""TLS between a socket and a connection.

asyncio's own holds 256 KiB for each connection, 125 MiB for 500 streams; this holds what has come in and not been read.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, cast


class TLS(asyncio.Transport, asyncio.Protocol):
    """The protocol of a socket, and the transport of what is `above`, which is connected once the handshake is done."""

    def __init__(self, above: asyncio.Protocol, context: ssl.SSLContext, host: str) -> None:
        super().__init__()
        self._above = above
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        self._begun: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._ready = False
        self._error: Exception | None = None

    async def begin(self) -> None:
        """Wait until the handshake is done. Raises `OSError`, as `ssl.SSLError` is one; the socket is closed then."""
        try:
            if (error := await self._begun) is not None:
                raise error
        except BaseException:
            self._socket.abort()
            raise

    # --- called by the event loop ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)
        self._advance(b"")

    def data_received(self, data: bytes) -> None:
        self._advance(data)

    def connection_lost(self, exc: Exception | None) -> None:
        error = exc or self._error
        if not self._begun.done():
            self._begun.set_result(error or ConnectionResetError("The connection was closed during the TLS handshake"))
        if self._ready:
            self._above.connection_lost(error)

    def pause_writing(self) -> None:
        if self._ready:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        if self._ready:
            self._above.resume_writing()

    def _advance(self, data: bytes) -> None:
        self._in.write(data)
        try:
            if not self._begun.done():
                self._tls.do_handshake()
                self._ready = True
                self._begun.set_result(None)
                self._above.connection_made(self)
            while self._ready and not self._socket.is_closing():
                if not (text := self._tls.read(65536)):
                    self._socket.close()  # the peer's word that no more comes
                    break
                self._above.data_received(text)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._error = error
            self._flush()  # tells the peer why
            self._socket.close()
        self._flush()

    def _flush(self) -> None:
        if data := self._out.read():
            self._socket.write(data)

    # --- called from above ----------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._tls.write(rest) :]
        except ssl.SSLError as error:
            self._error = error
            self._socket.abort()
        self._flush()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self._socket.get_write_buffer_size()

    def is_closing(self) -> bool:
        return self._socket.is_closing()

    def pause_reading(self) -> None:
        self._socket.pause_reading()

    def resume_reading(self) -> None:
        self._socket.resume_reading()

    def abort(self) -> None:
        self._socket.abort()
