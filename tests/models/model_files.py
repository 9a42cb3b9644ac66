"""The section that names a model file, and files whose configuration was changed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from transfer.models.model_file import Params
from transfer.models.safety import CONFIG

Change = Callable[[dict[str, Any]], object]  # of a configuration: of the model, of the layers inside it


def section(model: Path | str, network: str = "none", **values: Any) -> Params:
    given = {"model": str(model), "network": network, "range": "auto", "head": "auto", "layers": "auto"}
    return Params(**given | values)


def at(config: Any, name: str) -> dict[str, Any]:
    """A layer by its name, wherever it is."""
    found = [layer for layer in config["config"]["layers"] if layer["config"].get("name") == name]
    inside = (layer for layer in config["config"]["layers"] if "layers" in layer["config"])
    return found[0] if found else at(next(inside), name)


def change_archive(source: Path, path: Path, members: dict[str, bytes]) -> Path:
    """A copy of a `.keras` file with other members."""
    with zipfile.ZipFile(source) as old:
        members = {name: old.read(name) for name in old.namelist()} | members
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return path


def change_config(source: Path, path: Path, change: Change) -> Path:
    """A copy of a `.keras` or `.h5` file, by its suffix, with another configuration."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(source) as archive:
            config = json.loads(archive.read(CONFIG))
        change(config)
        return change_archive(source, path, {CONFIG: json.dumps(config).encode()})
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path
