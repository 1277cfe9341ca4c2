"""What a sweep says of rows of yours: how equal their parts are, and whether files have changed."""

from erasejax.datasets import FileRows, OwnRows
from erasejax.sweep._cells import Config, Grid, canonical
from erasejax.sweep._store import Store

__all__ = ["about", "changes"]


def about(grid: Grid) -> list[str]:
    """Returns a line for all own rows of a grid that are split in the same way."""
    own = [config.value for config in _datasets(grid) if isinstance(config.value, OwnRows)]
    return list(dict.fromkeys(value.about for value in own))


def changes(grid: Grid, store: Store | None) -> list[str]:
    """Returns a line for all files of a grid that a folder has blocks of, with another content."""
    try:
        manifests = [] if store is None else store.manifests()
    except ValueError:  # there are none; a damaged one is found when the table is read
        return []
    known: dict[str, set[object]] = {}
    for manifest in manifests:
        for config in _datasets(manifest.grid):
            known.setdefault(_named(config), set()).add(config.fields.get("content"))
    lines = [
        f"{config.fields['file']} with {config.fields['labels']}: not the content that there are "
        "blocks of; it is computed anew, and those stay"
        for config in _datasets(grid)
        if config.name == FileRows.name
        and config.fields["content"] not in known.get(_named(config), {config.fields["content"]})
    ]
    return list(dict.fromkeys(lines))


def _named(config: Config) -> str:
    """Returns all that a configuration is but its content."""
    return canonical({key: value for key, value in config.json.items() if key != "content"})


def _datasets(grid: Grid) -> list[Config]:
    return [config for part in grid.parts for config in part.datasets]
