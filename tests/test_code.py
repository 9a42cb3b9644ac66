"""Which modules a module can reach, and what of their text counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from transfer.running.code import closure, fingerprint

MODULES = {
    "stages/a.py": "import os\nfrom lib import one\nfrom lib.two import x\n",
    "lib/one.py": "def late():\n    import lib.deep.three\n",
    "lib/two.py": "x = 1\n",
    "lib/deep/three.py": "import lib.one\n",  # a circle
    "lib/apart.py": "",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_closure_holds_what_can_be_reached(root: Path) -> None:
    reached = [path.relative_to(root).as_posix() for path in closure(root / "stages/a.py", root)]
    assert reached == ["lib/deep/three.py", "lib/one.py", "lib/two.py", "stages/a.py"]


BEFORE = '''"""Words."""
class A:
    """Words."""

    def f(self, x: int) -> int:
        """Words."""
        return x + 1  # why
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("# why", "# because", True),
        ('"""Words."""\nclass', '"""Others, and more."""\n\n\nclass', True),
        ('        """Words."""\n        return', "        return", True),
        ("return x + 1", "return (x  +  1)", True),
        ("x + 1", "x + 2", False),
        ("x: int", "x: float", False),  # pydantic reads annotations
        ("class A:", "class B:", False),
        ('        """Words."""\n        return x + 1', '        x = """Words."""\n        return x + 1', False),
    ],
)
def test_only_what_a_module_does_counts(tmp_path: Path, old: str, new: str, same: bool) -> None:
    file = tmp_path / "module.py"
    file.write_text(BEFORE)
    before = fingerprint([file])
    assert old in BEFORE
    file.write_text(BEFORE.replace(old, new))
    assert (fingerprint([file]) == before) == same
