"""What the tests of the command line need: how to run it, and what it must leave alone."""

import os

import numpy as np

from erasejax.cli import _main as cli

N, D = 60, 5  # rows and features of x.npy
TASK = np.arange(N) // 7 % 2
KINDS = [".npy", ".npz", ".csv", ".parquet", ".safetensors"]


def ok(capsys, *argv):
    code = cli.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    assert (code, err) == (0, ""), err
    return out


def bad(capsys, *argv):
    """Runs a command that must fail; returns its one line, and checks that no file has changed."""
    before = files()
    code = cli.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.startswith("erasejax: error: ")
    assert err.count("\n") == 1
    assert files() == before
    return err


def files():
    return {name: open(name, "rb").read() for name in os.listdir(".") if os.path.isfile(name)}


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def save(name, x):
    np.save(name, x)
    return name
