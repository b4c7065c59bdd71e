"""What a script reaches: the modules whose edits make its results stale."""

from pathlib import Path

import pytest

from mosaic.imports import imported_modules


@pytest.fixture
def library(tmp_path) -> Path:
    """A script folder with a library of two wings."""
    files = {
        "mosaic/__init__.py": "",
        "mosaic/ground.py": "import numpy",
        "mosaic/wing/__init__.py": "",
        "mosaic/wing/room.py": "from mosaic.ground import thing\nfrom scipy import sparse",
        "mosaic/wing/other.py": "import torch",
        "mosaic/lone/__init__.py": "",
        "mosaic/lone/room.py": "import pandas",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "from mosaic.wing import room",
        "from mosaic.wing.room import thing",
        "import mosaic.wing.room",
        "def late():\n    from mosaic.wing.room import thing",
    ],
)
def test_a_script_reaches_a_room_its_wing_and_what_the_room_imports(library, line):
    (library / "script.py").write_text(line)
    modules, foreign = imported_modules(library / "script.py")
    found = {Path(module).relative_to(library / "mosaic").as_posix() for module in modules}
    assert found == {"__init__.py", "ground.py", "wing/__init__.py", "wing/room.py"}
    assert foreign == {"numpy", "scipy"}


def test_a_script_without_the_library_reaches_its_version_alone(library):
    (library / "script.py").write_text("import json")
    assert imported_modules(library / "script.py") == ([str(library / "mosaic" / "__init__.py")], {"json"})


def test_an_edited_module_is_followed_anew(library):
    (library / "script.py").write_text("from mosaic.wing import room")
    before, _ = imported_modules(library / "script.py")
    (library / "mosaic/wing/room.py").write_text("from mosaic.wing import other")
    after, foreign = imported_modules(library / "script.py")
    assert str(library / "mosaic/wing/other.py") in set(after) - set(before)
    assert foreign == {"torch"}
