"""The pages of the reference: one a room, with every public name in one of them."""

import importlib
import inspect
from pathlib import Path
from types import ModuleType

__all__ = ["write"]

ROOMS = {
    "erasejax": "Erasers, moments, and what all share",
    "erasejax.erasers": "New erasers",
    "erasejax.probes": "Probes",
    "erasejax.metrics": "Metrics",
    "erasejax.datasets": "Datasets",
    "erasejax.sweep": "Sweeps",
    "erasejax.models": "Inside models",
    "erasejax.plot": "Pictures",
    "erasejax.sklearn": "For scikit-learn",
    "erasejax.transport": "Transport between Gaussians",
    "erasejax.files": "File formats",
    "erasejax.testing": "Checks for your own",
}


def write(folder: Path) -> None:
    """Writes the pages, where they are not as they should be already."""
    folder.mkdir(exist_ok=True)
    seen: set[int] = set()
    pages = {"index": _index()}
    for room in ROOMS:
        module = importlib.import_module(room)
        names = [name for name in module.__all__ if _is_new(getattr(module, name), seen)]
        pages[room] = _page(room, module, names)
    for old in folder.iterdir():
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _is_new(thing: object, seen: set[int]) -> bool:
    if inspect.ismodule(thing) or id(thing) in seen:
        return False
    seen.add(id(thing))
    return True


def _index() -> str:
    listed = "\n".join(ROOMS)
    return (
        "# Reference\n\nEvery public name, from its docstring. The same in one table is in"
        f" [public names](../api.md).\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n"
    )


def _page(room: str, module: ModuleType, names: list[str]) -> str:
    parts = [f"# {ROOMS[room]}: `{room}`"]
    for name in names:
        kind = "autoclass" if inspect.isclass(getattr(module, name)) else "autofunction"
        parts.append(f"```{{eval-rst}}\n.. {kind}:: {room}.{name}\n```")
    return "\n\n".join(parts) + "\n"
