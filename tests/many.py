"""What the tests of fits over many files share: names of the files, and commands run on them."""

import numpy as np

from erasejax.cli import _main as cli
from tests.command import N, files

PARTS = 4
ROWS = N // PARTS
LEACE = ("--method", "leace")
COUNT = ("fit", "acts-*.npy", "y-*.npy", *LEACE, "--moments", "m.safetensors")


def run(capsys, *argv):
    """Runs a command that must succeed; returns what it prints, and what it says meanwhile."""
    code = cli.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert all(line.startswith("erasejax: ") for line in err.splitlines())
    return out, err


def fails(capsys, *argv):
    """Runs a command that must fail, after what it says; returns its last line."""
    before = files()
    code = cli.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    *said, last = err.splitlines()
    assert last.startswith("erasejax: error: ")
    assert all(line.startswith(("erasejax: in this", "erasejax: skipped")) for line in said)
    assert files() == before
    return last


def names(kind, ids=range(PARTS), ext=".npy"):
    return [f"{kind}-{i}{ext}" for i in ids]


def count(capsys, name, ids, *argv):
    argv = argv or LEACE
    rows = [*names("acts", ids), "--labels", *names("y", ids)]
    run(capsys, "fit", *rows, "--moments", f"{name}.safetensors", *argv)


def shorter(name, rows):
    return lambda: np.save(name, np.load(name)[:rows])
