"""CCS with ten starts in one program, against a loop of torch over the same update.

One unit is one start: 1,000 epochs of AdamW over all pairs at once. The loop takes one start after
the other, as the published code does; both sides get the same normalised rows.

    python -m bench.contrast
    python -m bench.contrast --epochs 200 --repeats 3
"""

import argparse
from pathlib import Path

import jax
import numpy as np
import torch

import erasejax as ej
from bench.harness import Case, Figure, Row, compare, report

SIZES = ((1000, 256), (1000, 768), (2000, 512))  # pairs, features
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


def one_size(rows: int, dims: int, epochs: int, repeats: int) -> tuple[list[Row], list[Figure]]:
    dataset = ej.datasets.ContrastPairs(rows=rows // 2, dims=dims, directions=8)
    key = jax.random.key(0)
    pairs = dataset.sample(key)
    probe = ej.probes.CCS(starts=STARTS, epochs=epochs)
    found = probe.fit(pairs, key=key)
    normal = found.normalization(pairs)
    halves = np.stack([normal.positive, normal.negative])
    starts = np.array(jax.random.normal(key, (STARTS, dims)))
    starts /= np.linalg.norm(starts, axis=1, keepdims=True)
    title = f"{rows} pairs, {dims} features"
    timed = compare(
        title,
        [
            Case("torch, a loop", lambda: torch_search(halves, starts[0], epochs), peer=True),
            Case(f"erasejax, {STARTS} starts", lambda: probe.fit(pairs, key=key), units=STARTS),
        ],
        repeats=repeats,
    )
    # What an epoch cannot do without: the rows once for the outputs, once for the gradient.
    both = jax.numpy.asarray(halves.reshape(2 * rows, dims))
    read = jax.jit(lambda x, w: x @ w)
    floor = compare(title, [Case("one pass", lambda: read(both, both[0]))], repeats=repeats)
    passes = timed[1].median * STARTS / epochs / floor[0].median
    theirs = torch_search(halves, starts[0], epochs)[1]
    return timed + floor, [
        Figure(title, "an epoch of ten starts", passes, "passes over the rows"),
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
