"""What clients do to `transfer serve` by mistake, by haste and by malice: raw bytes on a real connection."""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import signal
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from small_models import SIDES
from tally import Faults
from test_serve import LEFT, RIGHT, Server, Start, folder, png, served, server, start  # noqa: F401  # are fixtures

from transfer.serving import protocol
from transfer.serving.server import CONNECTIONS

pytestmark = pytest.mark.fault("Serving")
HOST = "Host: localhost\r\n"
POST = f"POST /predict HTTP/1.1\r\n{HOST}Connection: close\r\nContent-Type: image/png\r\n"


def connect(server: Server) -> socket.socket:  # noqa: F811
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def statuses(server: Server, sent: bytes, leave: bool) -> list[int]:  # noqa: F811
    """Send some bytes, and then `leave` or wait; the status of every answer, until the server ends the connection."""
    said = b""
    with connect(server) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(sent)
        if leave:
            connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(1 << 16):
            said += part
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


def request(target: str, method: str = "GET", headers: str = HOST, version: str = "HTTP/1.1") -> bytes:
    return f"{method} {target} {version}\r\n{headers}Connection: close\r\n\r\n".encode("latin-1")


def chunked(body: str) -> bytes:
    return f"{POST}Transfer-Encoding: chunked\r\n\r\n{body}".encode("latin-1")


def sized(length: str, body: bytes = LEFT) -> bytes:
    return f"{POST}Content-Length: {length}\r\n\r\n".encode() + body


HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(193)  # how TLS begins
MANY = "".join(f"X-{number}: {number}\r\n" for number in range(70_000))
CUT = [0]  # 400, which the client may not see: the connection is cut while it still sends
SPLIT = f"{HOST}X: a\r\n b\r\n"  # a header folded over two lines, as in old mail

# What it is called on the page, the bytes that are sent, the statuses that are right.
BYTES: list[tuple[str, bytes, list[int]]] = [
    *(
        ("a path out of the folder", request(path), [404])
        for path in (
            *("/../pyproject.toml", "/page.css/../../server.py", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd"),
            *("//etc/passwd", "/..\\..\\secret", "/%252e%252e/secret", "/page.css%00.html", "/./", "/%c0%ae%c0%ae/x"),
        )
    ),
    *(
        ("a method that is not known or not allowed", request("/", method), [405])
        for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "BREW", "get", "POST")
    ),
    ("a method that is not known or not allowed", request("/predict", "GET"), [405]),
    ("a method that is not known or not allowed", request("*", "OPTIONS"), [404]),
    ("a method that is not known or not allowed", request("localhost:80", "CONNECT"), [404]),
    ("HEAD in the place of GET", request("/", "HEAD"), [200]),
    *(
        ("a version of HTTP that is not spoken", sent, [400])
        for sent in (b"GET /\r\n\r\n", request("/", version="HTTP/9.9x"))
    ),
    ("a version of HTTP that is not spoken", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [403, 400]),
    ("TLS, where none is spoken", HELLO, [400]),
    ("noise", bytes(range(256)) * 4, [400]),
    ("nothing at all", b"", []),
    *(
        ("a proxy's request, which names the server in its first line", request(target), [404])
        for target in ("http://localhost/", "http://evil.example/", "http://localhost/health")
    ),
    (
        "an upgrade to a WebSocket",
        request("/", headers=f"{HOST}Upgrade: websocket\r\nSec-WebSocket-Key: YQ==\r\nConnection: Upgrade\r\n"),
        [200],
    ),
    ("an upgrade to HTTP/2", request("/", headers=f"{HOST}Upgrade: h2c\r\nHTTP2-Settings: YQ==\r\n"), [200]),
    ("headers of 64 KB", request("/", headers=f"{HOST}X: {'a' * (64 << 10)}\r\n"), [431]),
    ("headers of 64 KB", request("/", headers=HOST + MANY[: 64 << 10] + "\r\n"), [431]),
    ("headers of 1 MB", request("/", headers=f"{HOST}{'a' * (1 << 20)}: b\r\n"), CUT),
    ("headers of 1 MB", request("/", headers=HOST + MANY), CUT),
    ("an address of 64 KB", request("/" + "a" * (64 << 10)), [431]),
    ("an address of 64 KB", request("/?" + "a" * (64 << 10)), [431]),
    *(
        ("headers that are malformed", request("/", headers=headers), [400])
        for headers in (
            *(f"{HOST}X\r\n", f"{HOST}X : a\r\n", f"{HOST}X: a\0b\r\n", f"{HOST}: a\r\n", f"{HOST}\x7f: a\r\n"),
            *(f"{HOST}Content-Length: 1, 2\r\n", f"{HOST}Content-Length: \u00b2\r\n"),
        )
    ),
    ("headers that are malformed", request("/", headers=SPLIT), [200]),
    ("headers that come twice", request("/", headers=f"{HOST}Host: evil.example\r\n"), [400]),
    ("headers that come twice", request("/", headers=f"{HOST}Content-Length: 1\r\nContent-Length: 2\r\n"), [400]),
    ("headers that come twice", request("/", headers=f"{HOST}Origin: http://localhost\r\nOrigin: null\r\n"), [403]),
    ("no name of the server", request("/", headers=""), [400]),
    ("no name of the server", request("/", headers="", version="HTTP/1.0"), [403]),
    ("a length that is none", sized("-1"), [400]),
    ("a length that is none", sized("1e3"), [400]),
    ("a length that is none", sized("0x10"), [400]),
    ("a length that is none", sized("9" * 30), [400]),
    ("a length that is too short", sized(str(len(LEFT) - 30)), [400]),
    ("a length that is too long", sized(str(len(LEFT) + 9)), []),  # the rest never comes: nobody is there to answer
    ("a body where none is expected", request("/", headers=f"{HOST}Content-Length: 3\r\n") + b"abc", [200]),
    *(
        ("chunks that are malformed", chunked(body), [400])
        for body in ("zz\r\nabc\r\n0\r\n\r\n", "-1\r\n", "fffffffffffffffffffffff\r\na", "1\r\nabc\r\n", "\r\n")
    ),
    ("chunks that are malformed", chunked(f"1;{'x' * (64 << 10)}\r\na\r\n0\r\n\r\n"), [400]),
    ("chunks that never end", chunked("3\r\nabc\r\n"), []),
    (
        "a length and chunks at once",
        f"{POST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n".encode(),
        [400],
    ),
    ("an encoding that is not known", f"{POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".encode(), [400]),
    (
        "a body that is compressed",
        f"{POST}Content-Encoding: gzip\r\n".encode() + b"Content-Length: 2\r\n\r\n\x1f\x8b",
        [400],
    ),
    (
        "50 requests at once on one connection",
        request("/health").replace(b"close", b"keep-alive") * 49 + request("/"),
        [200] * 50,
    ),
    ("a request behind one that is malformed", b"GET\r\n\r\n" + request("/"), [400]),
]


def test_bytes_that_are_no_right_request_get_their_status_and_nothing_else_changes(
    server: Server,  # noqa: F811
    faults: Faults,
) -> None:
    for what, sent, right in BYTES:
        with faults(what):
            found = statuses(server, sent, leave=not right)
            assert found == right or (right == CUT and found in ([], [400])), (what, sent[:200])
    assert server.predict(LEFT)[0] == 200


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(side: int) -> bytes:
    """A PNG file of side × side black pixels, some hundred thousand times smaller than they are."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + side)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_images_that_unfold_to_far_more_than_they_are_take_bounded_memory(
    folder: Path,  # noqa: F811
    start: Start,  # noqa: F811
    faults: Faults,
) -> None:
    process, port = start("--models", str(folder))
    asked = Server(port, [])
    assert asked.predict(LEFT)[0] == 200
    watched = psutil.Process(process.pid)
    before = watched.memory_info().rss
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 28), 9))
    wide = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 0, 0, 0, 0)) + LEFT[33:]
    gif = b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(3) + b"," + bytes(9) + b"\2\1\0\0;"
    for sent, right in [(bomb(20_000), {400}), (wide, {400}), (gif, {400}), (LEFT[:33] + text + LEFT[33:], {200, 400})]:
        with faults("an image that unfolds to thousands of times its size"):
            assert asked.predict(sent, "application/octet-stream")[0] in right
    with faults("16 images of 100 megapixels at once, in 100 KB each"), ThreadPoolExecutor(16) as pool:
        large = bomb(9_990)
        assert {status for status, _ in pool.map(lambda _: asked.predict(large), range(16))} == {200}
    time.sleep(0.5)
    assert watched.memory_info().rss - before < 400 << 20  # two are read at a time
    assert asked.predict(RIGHT, "image/jpeg")[1]["scratch"][0]["class"] == "right"


Client = Callable[[socket.socket], None]


def slowly(head: bytes) -> Client:
    """A client that sends a beginning, and then a byte now and then."""

    def begin(connection: socket.socket) -> None:
        connection.sendall(head)

    return begin


def deaf(connection: socket.socket) -> None:
    """A client that asks again and again, and reads no answer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    connection.sendall(b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)


SLOW: dict[str, Client] = {
    "that send nothing": slowly(b""),
    "that send a header byte by byte": slowly(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "),
    "that send an image byte by byte": slowly(f"{POST}Content-Length: 1000000\r\n\r\n".encode()),
    "that send what nobody wants byte by byte": slowly(
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n"
    ),
    "that ask and never read": deaf,
}
COUNT = 200


@contextlib.contextmanager
def holding(server: Server, begin: Client, count: int) -> Iterator[list[socket.socket]]:  # noqa: F811
    """So many slow clients, who come again as soon as they are sent away; those that are connected."""
    stop, connected = threading.Event(), list[socket.socket]()

    def hold() -> None:
        while True:
            for number in range(count):
                if stop.wait(0.001):
                    return
                try:
                    connected[number].send(b"a")
                except BlockingIOError:
                    pass
                except (OSError, IndexError):
                    with contextlib.suppress(OSError):
                        connection = connect(server)
                        begin(connection)
                        connection.setblocking(False)
                        connected[number : number + 1] = [connection]

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        while len(connected) < count:
            time.sleep(0.05)
        yield connected
    finally:
        stop.set()
        thread.join()
        for connection in connected:
            connection.close()


@pytest.mark.parametrize("kind", [kind for kind in SLOW if "never read" not in kind])  # which is a flood, not slow
def test_200_slow_clients_keep_no_honest_one_from_its_answer(folder: Path, kind: str, faults: Faults) -> None:  # noqa: F811
    assert COUNT > CONNECTIONS
    what = f"{COUNT} clients {kind}, who come back when sent away"
    with served(folder) as server, faults(what), holding(server, SLOW[kind], COUNT):  # noqa: F811
        for number in range(50):
            began = time.monotonic()
            status, answer = server.predict((LEFT, RIGHT)[number % 2])
            assert (status, answer["scratch"][0]["class"]) == (200, SIDES[number % 2])
            assert time.monotonic() - began < 5


@pytest.mark.parametrize("kind", [kind for kind in SLOW if "image" not in kind])
def test_a_slow_client_is_sent_away_in_time(
    server: Server,  # noqa: F811
    kind: str,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "PATIENCE", 1.0)
    with faults("a client that keeps its connection and does not go on"), holding(server, SLOW[kind], 1) as connected:
        first, began = connected[0], time.monotonic()
        while connected[0] is first:
            assert time.monotonic() - began < 10
            time.sleep(0.05)
        assert time.monotonic() - began > 0.5
    assert server.predict(LEFT)[0] == 200


def test_who_takes_its_time_between_two_requests_is_answered(server: Server, faults: Faults) -> None:  # noqa: F811
    with faults("a pause between two requests on one connection"), connect(server) as connection:
        for _ in range(3):
            connection.sendall(b"GET /health HTTP/1.1\r\n")
            time.sleep(0.3)
            connection.sendall(b"Host: localhost\r\n\r\n")
            said = b""
            while not said.endswith(b"}"):
                said += connection.recv(1 << 16)
            assert said.startswith(b"HTTP/1.1 200 ")
            time.sleep(1)


def test_clients_that_leave_at_every_point_are_no_loss(server: Server, faults: Faults) -> None:  # noqa: F811
    whole = sized(str(len(LEFT)))
    for end in range(0, len(whole), 7):
        with faults("a client that leaves in the middle of its request"), connect(server) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # without a good-bye
            connection.sendall(whole[:end])
    assert server.predict(LEFT)[0] == 200


GROWTH = 20 << 20  # bytes that the server's memory may grow by after the first thousand requests


def test_10_000_requests_of_32_clients_meet_no_error_and_memory_stays_flat(
    folder: Path,  # noqa: F811
    start: Start,  # noqa: F811
    faults: Faults,
) -> None:
    process, port = start("--models", str(folder))
    images = [(LEFT, "left"), (RIGHT, "right"), (png(np.zeros((300, 200, 3), np.uint8), "BMP"), None)]
    taken = list[float]()

    def ask(client: int, requests: int) -> None:
        """Of 32 clients, half keep their connection."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for number in range(requests):
            body, said = images[(client + number) % len(images)]
            began = time.monotonic()
            connection.request("POST", "/predict", io.BytesIO(body), {"Content-Type": "application/octet-stream"})
            response = connection.getresponse()
            answer = response.read()
            taken.append(time.monotonic() - began)
            assert response.status == 200, answer
            assert said is None or f'"scratch":[{{"class":"{said}"'.encode() in answer
            if client % 2:
                connection.close()
        connection.close()

    def round_of(requests: int) -> None:
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(ask, range(32), [requests] * 32))

    with faults("10,000 requests, 32 at a time"):
        round_of(32)
        watched = psutil.Process(process.pid)
        before, files = watched.memory_info().rss, watched.num_fds()
        round_of(313)
        grown = watched.memory_info().rss - before
        assert len(taken) >= 10_000
        assert grown < GROWTH
        assert watched.num_fds() <= files
        median, late = np.percentile(taken[32 * 32 :], [50, 99]) * 1000
        print(
            f"{len(taken):,} requests: {median:.0f} ms as a rule, 1 % over {late:.0f} ms, {grown / 2**20:.1f} MB more"
        )
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
