"""What clients of `transfer serve` do by mistake, by haste and by malice: traps for images, hanging connections."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from serving import Server, served
from small_models import SIDES, png, side_image, write_sides

from transfer.serve import app, page
from transfer.serve.models import open_folder

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
POST = "POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: image/png\r\n"

LEFT, RIGHT = (png(side_image(side)) for side in SIDES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_sides(folder / "scratch.keras", "scratch")
    return folder


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    """Of a server in a thread of this process, so that tests can change its limits."""
    models, best = open_folder(folder)
    with served(app.build(models, best, ["localhost", "127.0.0.1"])) as server:
        yield server.port


@pytest.fixture
def process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command itself, and its port."""
    command = [sys.executable, "-m", "transfer.cli", "serve", "--port", "0", "--models", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        found = re.search(r":(\d+)/", running.stdout.readline())
        assert found, running.stderr.read()
        yield running, int(found[1])
        running.kill()


def predict(port: int, image: bytes) -> tuple[int, str]:
    """Status, and the class that is answered first."""
    status, _, content = Server(port).ask("POST", "/predict", image, Content_Type="application/octet-stream")
    return status, json.loads(content)["answers"]["scratch"][0]["class"] if status == 200 else ""


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(side: int) -> bytes:
    """A PNG file of side × side black pixels, some hundred thousand times smaller than they are."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + side)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_images_that_unfold_to_far_more_than_they_are_take_bounded_memory(
    process: tuple[subprocess.Popen[str], int],
) -> None:
    running, port = process
    assert predict(port, LEFT) == (200, "left")
    watched = psutil.Process(running.pid)
    before = watched.memory_info().rss
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 28), 9))
    wide = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 0, 0, 0, 0)) + LEFT[33:]
    gif = b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(3) + b"," + bytes(9) + b"\2\1\0\0;"
    for sent, right in [(bomb(20_000), {400}), (wide, {400}), (gif, {400}), (LEFT[:33] + text + LEFT[33:], {200, 400})]:
        assert predict(port, sent)[0] in right
    large = bomb(9_990)
    with ThreadPoolExecutor(8) as pool:
        assert {status for status, _ in pool.map(lambda _: predict(port, large), range(8))} == {200}
    time.sleep(0.5)
    assert watched.memory_info().rss - before < 400 << 20  # two are read at a time
    assert predict(port, RIGHT) == (200, "right")


HANGING = {  # clients that send a beginning, and no more
    "nothing": b"",
    "a header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
    "an image": f"{POST}Content-Length: 1000000\r\n\r\n".encode(),
}
COUNT = 200


@pytest.mark.parametrize("what", HANGING)
def test_200_hanging_clients_keep_no_honest_one_from_its_answer(port: int, what: str) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(COUNT):
            stack.enter_context(connect(port)).sendall(HANGING[what])
        for number in range(20):
            began = time.monotonic()
            assert predict(port, (LEFT, RIGHT)[number % 2]) == (200, SIDES[number % 2])
            assert time.monotonic() - began < 5


def test_an_image_that_does_not_arrive_is_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PATIENCE", 0.5)
    with connect(port) as connection:
        connection.sendall(HANGING["an image"])
        said = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert said.startswith(b"HTTP/1.1 408 ")
    assert said.endswith(b'{"error":"the file did not arrive within 0.5 s"}')


def test_thousands_of_requests_of_32_clients_meet_no_error_and_memory_stays_flat(
    process: tuple[subprocess.Popen[str], int],
) -> None:
    running, port = process

    def ask(number: int) -> tuple[int, str]:
        return predict(port, (LEFT, RIGHT)[number % 2])

    def ask_all(count: int) -> None:
        with ThreadPoolExecutor(32) as pool:
            assert list(pool.map(ask, range(count))) == [(200, SIDES[number % 2]) for number in range(count)]

    ask_all(1000)
    watched = psutil.Process(running.pid)
    before, files = watched.memory_info().rss, watched.num_fds()
    ask_all(2000)
    assert watched.memory_info().rss - before < 20 << 20
    assert watched.num_fds() <= files
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=30) == ("", "")
