"""CCS with ten starts in one program, against a loop of torch over the same update.

One unit is one start: 1,000 epochs of AdamW over all pairs at once. The loop takes one start after
the other, as the published code does; both sides get the same normalised rows. The floor is what an
epoch cannot do without: one product for the outputs, one for the gradient.

    python -m bench.speed.contrast
    python -m bench.speed.contrast --epochs 200 --repeats 3
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch

import erasejax as ej
from bench.speed.harness import Case, Figure, Row, compare, report
from bench.speed.peers import one_or_all_threads
from erasejax._linalg.products import product

SIZES = ((500, 768), (1000, 256), (1000, 768), (2000, 512))  # pairs, features
STARTS = 10


def torch_search(halves: np.ndarray, start: np.ndarray, epochs: int) -> tuple[np.ndarray, float]:
    """Returns the weight and loss of one start."""
    x, y = torch.from_numpy(halves[0]), torch.from_numpy(halves[1])
    probe = torch.nn.Linear(x.shape[1], 1)
    with torch.no_grad():
        probe.weight.copy_(torch.from_numpy(start)[None])
        probe.bias.zero_()
    solver = torch.optim.AdamW(probe.parameters(), lr=1e-2, weight_decay=1e-2)

    def loss():
        p, q = torch.sigmoid(probe(x)), torch.sigmoid(probe(y))
        return ((p - (1 - q)) ** 2).mean() + (torch.minimum(p, q) ** 2).mean()

    for _ in range(epochs):
        value = loss()
        solver.zero_grad()
        value.backward()
        solver.step()
    with torch.no_grad():
        return probe.weight[0].numpy(), float(loss())


def products(halves: np.ndarray, starts: np.ndarray, epochs: int) -> Callable[[], jax.Array]:
    """Returns what runs the two products of every epoch, of all starts, and nothing else."""
    rows = jnp.asarray(halves.reshape(-1, halves.shape[2]))
    columns, weights = jnp.array(rows.T), jnp.asarray(starts)

    @jax.jit
    def run(rows, columns, weights):
        def epoch(_, weights):
            outputs = product("md,dn->mn", weights, columns)
            weights = product("mn,nd->md", outputs, rows)
            return weights / jnp.max(jnp.abs(weights))  # or it overflows

        return jax.lax.fori_loop(0, epochs, epoch, weights)

    return lambda: run(rows, columns, weights)


def one_size(rows: int, dims: int, epochs: int, repeats: int) -> tuple[list[Row], list[Figure]]:
    dataset = ej.datasets.ContrastPairs(rows=rows // 2, dims=dims, directions=8)
    key = jax.random.key(0)
    pairs = dataset.sample(key)
    probe = ej.probes.CCS(starts=STARTS, epochs=epochs)
    normal = ej.PairNormalization.of(pairs, scale=probe.scale)(pairs)
    halves = np.stack([normal.positive, normal.negative])
    starts = np.array(jax.random.normal(key, (STARTS, dims)))
    starts /= np.linalg.norm(starts, axis=1, keepdims=True)
    title = f"{rows} pairs, {dims} features"
    timed = compare(
        title,
        [
            *one_or_all_threads("torch, a loop", lambda: torch_search(halves, starts[0], epochs)),
            Case(f"erasejax, {STARTS} starts", lambda: probe.fit(pairs, key=key), units=STARTS),
            Case("the two products alone", products(halves, starts, epochs), units=STARTS),
        ],
        repeats=repeats,
    )
    found = probe.fit(pairs, key=key)
    theirs = torch_search(halves, starts[0], epochs)[1]
    return timed, [
        Figure(title, "erasejax", timed[-2].median / timed[-1].median, "times the products"),
        Figure(title, "loss of one start", float(found.start_losses[0]), ""),
        Figure(title, "the same, torch", theirs, ""),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1000)
    args = parser.parse_args()
    rows, figures = [], []
    for size in SIZES:
        timed, found = one_size(*size, args.epochs, args.repeats)
        rows += timed
        figures += found
    report("Contrast", "start", rows, args.out, figures=figures, packages=("jax", "torch"))


if __name__ == "__main__":
    main()
