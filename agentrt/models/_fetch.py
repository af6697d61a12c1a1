"""Fetching what a URL of a user, a tool or a model points to, without reaching into the network we stand in.

Each host is resolved here, and the request goes to the very address that was checked: a name that resolves otherwise a
moment later changes nothing. Redirects are checked alike. Proxies are not used: they would resolve names by themselves.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

from agentrt.media import MediaLimits

MAX_REDIRECTS = 5
_TRANSLATED = IPv6Network("64:ff9b::/96")


class FetchRefused(Exception):
    """It must not be fetched, or is not there. Trying again does not help."""


class FetchFailed(Exception):
    """The server could not be reached, or failed."""


async def fetch(url: str, limits: MediaLimits) -> tuple[bytes, str | None]:
    """Return what is at an http(s) URL, and the MIME type that its server names."""
    import httpx2

    try:
        async with (
            asyncio.timeout(limits.timeout_s),
            httpx2.AsyncClient(
                trust_env=False,
                verify=httpx2.create_ssl_context(),
                timeout=limits.timeout_s,
                # a connection belongs to the name it was made for, and is found by its address here: never used again
                limits=httpx2.Limits(max_keepalive_connections=0),
            ) as client,
        ):
            target = httpx2.URL(url)
            for _ in range(MAX_REDIRECTS + 1):
                found = await _get(client, target, limits)
                if not isinstance(found, httpx2.URL):
                    return found
                target = found
    except TimeoutError as error:
        raise FetchFailed(f"it did not come within timeout_s={limits.timeout_s:g}") from error
    except httpx2.InvalidURL as error:
        raise FetchRefused(str(error)) from error
    except httpx2.HTTPError as error:
        raise FetchFailed(str(error) or type(error).__name__) from error
    raise FetchRefused(f"more than {MAX_REDIRECTS} redirects")


async def _get(client: Any, url: Any, limits: MediaLimits) -> Any:
    """The content and its type, or the URL of a redirect."""
    if url.scheme not in ("http", "https"):
        raise FetchRefused(f"only http and https are fetched, not {url.scheme!r}")
    address = await _address(url.host, url.port or (443 if url.scheme == "https" else 80), limits)
    request = client.build_request(
        "GET",
        url.copy_with(host=address),
        headers={"host": url.netloc.decode("ascii"), "accept-encoding": "identity"},
        extensions={"sni_hostname": url.raw_host.decode("ascii")},
    )
    response = await client.send(request, stream=True)
    try:
        if response.has_redirect_location:
            return url.join(response.headers["location"])
        if not response.is_success:
            kind = FetchFailed if response.status_code >= 500 else FetchRefused
            raise kind(f"its server answers with status {response.status_code}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise FetchRefused("its server sends it compressed without having been asked to")
        return await _read(response, limits), response.headers.get("content-type", "").partition(";")[0].strip() or None
    finally:
        await response.aclose()


async def _read(response: Any, limits: MediaLimits) -> bytes:
    too_large = FetchRefused(f"it is larger than max_bytes={limits.max_bytes}")
    if int(response.headers.get("content-length", "0")) > limits.max_bytes:
        raise too_large
    content = bytearray()
    async for piece in response.aiter_raw():
        content += piece
        if len(content) > limits.max_bytes:
            raise too_large
    return bytes(content)


async def _address(host: str, port: int, limits: MediaLimits) -> str:
    """An address of the host; refuses a host with one that is not public."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise FetchFailed(f"the host {host!r} is not known: {error}") from error
    addresses = [ip_address(str(address[0]).partition("%")[0]) for *_, address in found]
    if not limits.allow_private and (private := next((one for one in addresses if not is_public(one)), None)):
        raise FetchRefused(f"{host!r} is at {private}, which is not a public address (see MediaLimits.allow_private)")
    return str(addresses[0])


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one of the public Internet, also by whatever stands in an IPv6 one."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address.sixtofour is not None or address.teredo is not None or address in _TRANSLATED:
            return False
    return address.is_global and not address.is_multicast
