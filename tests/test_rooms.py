"""The house: a room imports only from rooms below it, and only what they give."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import erasejax as ej

PACKAGE = Path(ej.__file__).parent

# From the roof to the ground.
ROOMS = [
    "cli",
    "pages",
    "sweep",
    "sklearn",
    "testing",
    "models",
    "datasets",
    "readout",
    "files",
    "erasers",
    "probes",
    "metrics",
    "transport",
    "projection",
    "statistics",
    "plot",
    "rows",
    "names",
    "_linalg",
    "_core",
]
WHOLE = {"__init__", "__main__"}  # they see every room


def imports(text):
    """Yields (module, names) of every import from the package, wherever it stands."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names if in_package(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and in_package(node.module):
            names = [alias.name for alias in node.names]
            if node.module == "erasejax":
                yield from ((f"erasejax.{name}", []) for name in names)
            else:
                yield node.module, names


def in_package(module):
    return module.partition(".")[0] == "erasejax"


def faults(room, text):
    """Yields what a file of a room imports that it must not."""
    for module, names in imports(text):
        other, *inner = module.split(".")[1:]
        if other == room:
            continue
        if ROOMS.index(other) <= ROOMS.index(room):
            yield f"{room} imports from {module}, which is not below it"
        if any(part.startswith("_") for part in (*inner, *names)):
            yield f"{room} imports {names or inner} from {module}, which is private there"


def files():
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def test_every_file_is_in_a_room():
    found = {path.parts[0].removesuffix(".py") for path in files()}
    assert found == set(ROOMS) | WHOLE


@pytest.mark.parametrize("path", files(), ids=str)
def test_rooms_import_from_rooms_below(path):
    room = path.parts[0].removesuffix(".py")
    if room not in WHOLE:
        assert not list(faults(room, (PACKAGE / path).read_text()))


def test_the_test_can_fail():
    assert list(faults("rows", "from erasejax.probes import Logistic"))
    assert list(faults("probes", "from erasejax.rows._dataset import Dataset"))
    assert list(faults("cli", "def late():\n    from erasejax.files import _saved"))
    assert list(faults("metrics", "import erasejax.metrics\nfrom erasejax import erasers"))
    assert not list(faults("probes", "from erasejax.rows import Dataset"))


@pytest.mark.slow
def test_what_takes_long_is_imported_when_it_is_needed():
    code = "import sys, erasejax; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    found = done.stdout.split()
    assert "erasejax.erasers" in found
    late = {"optax", "flax.nnx", "pandas", "pyarrow", "xarray", "matplotlib", "sklearn"}
    own = {"models", "plot", "sweep", "testing"}
    assert not (late | {f"erasejax.{name}" for name in own}) & set(found)
    assert own <= {name for name in dir(ej) if inspect.ismodule(getattr(ej, name))}
