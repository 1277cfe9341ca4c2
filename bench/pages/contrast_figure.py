"""The figure contrast.png: what CCS finds beside a distractor, and along orthogonal directions.

python -m bench.pages.contrast_figure
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import erasejax as ej
from erasejax.plot import COLOURS, save

PROMINENCE = (0.0, 1.0, 2.0, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 8.0)
SEEDS, ROUNDS = 12, 24
PAIRS = ej.datasets.ContrastPairs(rows=100, dims=32, directions=4)
EASY = ej.datasets.ContrastPairs(
    rows=50, dims=256, directions=200, truth=200.0, noise=2.0, content=4.0, offset=100.0
)


def beside_a_distractor() -> np.ndarray:
    """Accuracies (prominences, seeds, 4): CCS, CCS on the distractor, CRC, logistic."""
    probe = ej.probes.CCS(epochs=300)

    def one(prominence, key):
        dataset = PAIRS.replace(distractor=prominence)
        train, test = dataset.sample(key), dataset.sample(key, part=1)
        found = probe.fit(train, key=key)
        fit, score = (found.normalization.differences(pairs) for pairs in (train, test))
        return jnp.stack([
            found.accuracy(test),
            found.accuracy(test.replace(labels=test.distractor)),
            ej.probes.CRC().fit(train).accuracy(test),
            ej.metrics.accuracy(ej.probes.Logistic().fit(fit), score),
        ])

    keys = jax.random.split(jax.random.key(0), SEEDS)
    run = jax.jit(lambda p: jax.lax.map(lambda key: one(p, key), keys))
    return np.stack([run(jnp.float32(p)) for p in PROMINENCE])


def round_by_round(directions: int) -> tuple[np.ndarray, float]:
    """Accuracies of recursive CCS (seeds, rounds), and the mean one of random directions."""
    dataset = EASY.replace(directions=directions)
    probe = ej.probes.CCS(epochs=50, starts=3)

    def one(key):
        train, test = dataset.sample(key), dataset.sample(key, part=1)
        found = ej.probes.recursive_ccs(probe, train, rounds=ROUNDS, key=key)

        def draw(key):
            return ej.probes.RandomDirection().fit(train, key=key).accuracy(test)

        random = jax.vmap(draw)(jax.random.split(key, 100)).mean()
        return jax.vmap(lambda probe: probe.accuracy(test))(found), random

    keys = jax.random.split(jax.random.key(1), SEEDS)
    found, random = jax.jit(lambda keys: jax.lax.map(one, keys))(keys)
    return np.asarray(found), float(random.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    args = parser.parse_args()
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    found = beside_a_distractor()
    print("prominence", PROMINENCE)
    curves = (
        ("CCS, truth", "blue", "o", "-"),
        ("CCS, distractor", "red", "^", "-"),
        ("CRC, truth", "sky", "s", "--"),
        ("logistic, truth", "green", "v", ":"),
    )
    for i, (name, colour, marker, dash) in enumerate(curves):
        mean = found[..., i].mean(axis=1)
        print(name, np.round(mean, 2))
        left.plot(PROMINENCE, mean, dash, marker=marker, color=COLOURS[colour], label=name)
    strength = float(PAIRS.truth) * PAIRS.directions**0.5
    left.axvline(strength, color=COLOURS["black"], lw=1, ls=":")
    left.annotate(
        "as prominent\nas the truth",
        (strength, 0.74),
        xytext=(12, 0),
        textcoords="offset points",
        va="center",
    )
    left.set(
        xlabel="prominence of the distractor (distance of its means, noise sd)",
        ylabel="accuracy on fresh pairs",
        title="Without labels, the more prominent feature wins",
    )
    for directions, colour, marker in ((200, "blue", "o"), (2, "orange", "^")):
        accuracies, random = round_by_round(directions)
        print(directions, "directions", np.round(accuracies.mean(axis=0), 2), round(random, 2))
        right.plot(
            range(1, ROUNDS + 1),
            accuracies.mean(axis=0),
            "-",
            marker=marker,
            color=COLOURS[colour],
            label=f"truth in {directions} of {EASY.dims} directions",
        )
        right.axhline(random, color=COLOURS[colour], lw=1, ls="--")
        right.annotate(
            "mean of random directions",
            (ROUNDS, random),
            xytext=(0, -4),
            textcoords="offset points",
            ha="right",
            va="top",
            color=COLOURS[colour],
        )
    right.set(
        xlabel="round of recursive CCS",
        title="Orthogonal directions go on where truth is redundant",
    )
    left.set_ylim(0.47, 1.02)
    for axes in (left, right):
        axes.axhline(0.5, color=COLOURS["black"], lw=1, ls=":")
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, loc="center left", bbox_to_anchor=(0, 0.45))
    right.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 0.05))
    save(figure, args.out / "contrast.png")


if __name__ == "__main__":
    main()
