"""Media on their way to a provider: what is read and fetched, what is not, and what may not be."""

from __future__ import annotations

import mimetypes
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, errors
from agentrt.media import Audio, File, Image, Media, MediaLimits, Video
from agentrt.models import _content
from agentrt.models._content import with_content
from agentrt.models._failures import Source
from agentrt.models._fetch import is_public
from agentrt.models._media import mime_type
from agentrt.models.anthropic import Claude
from agentrt.models.message import Message
from agentrt.models.ollama import Ollama
from agentrt.models.openai import OpenAIChat
from agentrt.testing import ScriptedModel
from tests.http_server import Reply, Server

HERE = MediaLimits(allow_private=True, timeout_s=5)
GIF = b"GIF89a"


@pytest.fixture(autouse=True)
def nothing_fetched_before(monkeypatch: pytest.MonkeyPatch, one_certificate: Path) -> None:
    _content._recent.clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(one_certificate))


async def content_of(medium: Media, limits: MediaLimits = HERE, *, takes_url: bool = False) -> Any:
    name = {Image: "images", Audio: "audio", Video: "videos", File: "files"}[type(medium)]
    given: dict[str, Any] = {name: [medium]}
    message = Message(role="user", content="see", **given)
    (ready,) = await with_content([message], lambda _: takes_url, limits, Source("acme", "m"))
    (found,) = getattr(ready, name)
    assert getattr(message, name) == [medium]
    return found


async def test_messages_without_media_are_passed_on_as_they_are():
    messages = [Message(role="user", content="hi")]

    assert await with_content(messages, lambda _: False, MediaLimits(), Source("acme", "m")) is messages


async def test_a_path_is_read_and_keeps_its_type_and_name(tmp_path: Path):
    (tmp_path / "notes.txt").write_bytes(b"hello")

    assert await content_of(File(path=tmp_path / "notes.txt")) == File(
        data=b"hello", mime_type="text/plain", name="notes.txt"
    )


async def test_a_url_that_the_provider_takes_is_left_alone():
    medium = Image(url="https://example.com/a.png")

    assert await content_of(medium, takes_url=True) is medium


async def test_a_url_is_fetched_once_for_all_calls_of_a_run(server: Server):
    server.add(body=GIF, headers={"content-type": "image/gif; x=y"})

    first = await content_of(Image(url=f"{server.url}/a", detail="low"))
    again = await content_of(Image(url=f"{server.url}/a", detail="low"))

    assert first == again == Image(data=GIF, mime_type="image/gif", detail="low")
    assert len(server.requests) == 1
    assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"


async def test_a_data_url_is_decoded():
    assert await content_of(Audio(url="data:audio/ogg;base64,T2dn")) == Audio(data=b"Ogg", mime_type="audio/ogg")
    with pytest.raises(errors.ModelBadRequest, match="broken"):
        await content_of(Audio(url="data:audio/ogg;base64,T2d"))


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::1]:{port}/", "http://0.0.0.0:{port}/",
     "http://[::ffff:127.0.0.1]:{port}/", "http://169.254.169.254/latest/meta-data", "http://2130706433/"],
)  # fmt: skip
async def test_no_request_goes_to_an_address_that_is_not_public(server: Server, url: str):
    with pytest.raises(errors.ModelBadRequest, match="not a public address") as caught:
        await content_of(Image(url=url.format(port=server.port)), MediaLimits())

    assert not caught.value.retryable
    assert "allow_private" in str(caught.value)
    assert not server.requests


async def test_no_request_goes_to_a_name_that_leads_to_such_an_address(server: Server, monkeypatch: pytest.MonkeyPatch):
    lookup = socket.getaddrinfo

    def misled(host: Any, *args: Any, **options: Any) -> Any:
        return lookup("127.0.0.1" if host == "pictures.example" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", misled)
    with pytest.raises(errors.ModelBadRequest, match=r"'pictures.example' is at 127\.0\.0\.1, which is not a public"):
        await content_of(Image(url=f"http://pictures.example:{server.port}/a.png"), MediaLimits())

    assert not server.requests


@pytest.mark.parametrize("target", ["http://10.0.0.1/a.png", "//169.254.169.254/latest", "http://[fd00::1]/"])
async def test_a_redirect_to_such_an_address_is_not_followed(
    server: Server, monkeypatch: pytest.MonkeyPatch, target: str
):
    monkeypatch.setattr("agentrt.models._fetch.is_public", lambda one: one.is_loopback or is_public(one))
    server.add(status=302, headers={"location": target}, body=b"")

    with pytest.raises(errors.ModelBadRequest, match="not a public address"):
        await content_of(Image(url=f"{server.url}/a.png"), MediaLimits())

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("2001:4860:4860::8888", True),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool):
    assert is_public(ip_address(address)) is public


async def test_redirects_are_followed_a_few_times(server: Server):
    server.add(status=302, headers={"location": "/b"}, body=b"")
    server.add(body=GIF, headers={"content-type": "image/gif"})
    assert (await content_of(Image(url=f"{server.url}/a"))).data == GIF

    server.answer = lambda _: Reply(status=302, headers={"location": "/again"}, body=b"")
    with pytest.raises(errors.ModelBadRequest, match="more than 5 redirects"):
        await content_of(Image(url=f"{server.url}/c"))


async def test_a_redirect_to_another_scheme_is_refused(server: Server):
    server.add(status=302, headers={"location": "file:///etc/passwd"}, body=b"")

    with pytest.raises(errors.ModelBadRequest, match="only http and https"):
        await content_of(Image(url=f"{server.url}/a"))


@pytest.mark.parametrize("body", [b"x" * 11, [b"x" * 6, b"x" * 5]], ids=["told", "untold"])
async def test_what_is_too_large_is_not_read(server: Server, body: Any):
    server.add(body=body)

    with pytest.raises(errors.ModelBadRequest, match="larger than max_bytes=10"):
        await content_of(Image(url=f"{server.url}/a"), MediaLimits(allow_private=True, max_bytes=10))


@pytest.mark.parametrize("kind", ["path", "data"])
async def test_the_limit_holds_for_what_is_here_as_well(tmp_path: Path, kind: str):
    (tmp_path / "a").write_bytes(b"x" * 11)
    medium = Image(path=tmp_path / "a") if kind == "path" else Image(data=b"x" * 11)

    with pytest.raises(errors.ModelBadRequest, match="11 bytes, more than max_bytes=10"):
        await content_of(medium, MediaLimits(max_bytes=10))


async def test_a_file_that_is_not_there_is_a_clear_error(tmp_path: Path):
    with pytest.raises(errors.ModelBadRequest, match="No such file"):
        await content_of(Image(path=tmp_path / "none.png"))


@pytest.mark.parametrize(("status", "error"), [(404, errors.ModelBadRequest), (503, errors.ModelConnectionError)])
async def test_a_status_is_told(server: Server, status: int, error: type[errors.ModelError]):
    server.add(status=status, body=b"")

    with pytest.raises(error, match=f"status {status}"):
        await content_of(Image(url=f"{server.url}/a"))


async def test_a_server_that_does_not_answer_is_not_waited_for(server: Server):
    server.add(body=[b"x", server.gate()])

    with pytest.raises(errors.ModelConnectionError, match=r"within timeout_s=0\.05"):
        await content_of(Image(url=f"{server.url}/a"), MediaLimits(allow_private=True, timeout_s=0.05))


def test_what_each_provider_fetches_itself():
    image, pdf = Image(url="https://example.com/a"), File(url="https://example.com/a.pdf")
    text, sound = File(url="https://example.com/a.txt"), Audio(url="https://example.com/a.wav")

    assert [OpenAIChat().takes_url(one) for one in (image, pdf, text, sound)] == [True, False, False, False]
    assert [Ollama().takes_url(one) for one in (image, pdf, text, sound)] == [False] * 4
    assert [Claude().takes_url(one) for one in (image, pdf, text)] == [True, True, False]


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (File(data=b"hello", name="notes.txt"), "text/plain"),
        (File(data=b"a,b\n1,2", name="table.csv"), "text/csv"),
        (File(data="grüezi".encode()), "text/plain"),
        (File(data=b"%PDF-1.7 \xff"), "application/pdf"),
        (File(data=b"PK\x03\x04\xff", name="a.docx"), mimetypes.guess_type("a.docx")[0]),
        (File(data=b"\x00\x01\xff"), "application/pdf"),
        (File(data=b"%PDF-1.7", name="a.txt", mime_type="application/pdf"), "application/pdf"),
    ],
)
def test_what_a_file_is_tells_its_name_or_its_bytes(file: File, kind: str):
    assert file.data is not None
    assert mime_type(file, file.data, "application/pdf") == kind


@pytest.mark.parametrize("given", [["cat.png"], [File(path="cat.png")], [b"\x89PNG"]])
def test_what_is_no_image_is_a_mistake_that_is_told(given: Any):
    with pytest.raises(TypeError, match=r"images takes Image\(url=…, path=… or data=…\), not (str|File|bytes)"):
        Agent(model=ScriptedModel("a cat")).run("What is this?", images=given)
