"""Tables on the terminal."""

import pytest
from rich.table import Table

from erasejax._core.console import open_console, print_table
from erasejax._core.text import told_apart

NAMES = ["K" * 6, "K-" * 8, "K" * 20]
NUMBERS = ["0.480-0.520", "0.512 ± 0.034", "1.0000"]
HEAD = ["accuracy", "95% interval", "equalised odds difference"]


def printed(capsys, monkeypatch, columns):
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(columns))
    table = Table("features", "probe")
    for name in HEAD:
        table.add_column(name, justify="right")
    for name in NAMES:
        table.add_row(name, name, *NUMBERS)
    print_table(open_console(), table)
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [None, 300, 140, 80, 70, 50, 1])
def test_numbers_are_never_cut(columns, capsys, monkeypatch):
    out = printed(capsys, monkeypatch, columns)
    assert "…" not in out
    for number in NUMBERS:
        assert out.count(number) == len(NAMES)
    assert out.count("K") == 2 * sum(name.count("K") for name in NAMES)


@pytest.mark.parametrize(("columns", "lines"), [(None, 7), (140, 7), (80, 9)])
def test_the_width_is_used(columns, lines, capsys, monkeypatch):
    out = printed(capsys, monkeypatch, columns).splitlines()
    assert len(out) == lines
    assert max(map(len, out)) <= (columns or 1000)


def test_a_pipe_has_no_width(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table(*["x" * 300] * 9)
    print_table(open_console(), table)
    assert capsys.readouterr().out.splitlines()[1].count("x" * 300) == 9


def test_names_without_what_they_share():
    assert told_apart(["a.npz:layer0", "a.npz:layer10"]) == ["layer0", "layer10"]
    assert told_apart(["f/x-0.npy", "f/x-1.npy"]) == ["x-0.npy", "x-1.npy"]
    assert told_apart(["f/a.npz:x", "f/b.npz:x"]) == ["a.npz:x", "b.npz:x"]
    assert told_apart(["a.npy", "b.npy"]) == ["a.npy", "b.npy"]
    assert told_apart(["f/a.npy"]) == ["f/a.npy"]
