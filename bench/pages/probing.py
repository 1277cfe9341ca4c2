"""What an accuracy means: rows of four kinds and two probes, in bits and against controls.

The words are of 100 types, 16 rows each, about a random vector of their own in 128 features; the
concept is a property of the type. "Linear" is a concept along one direction of 16, "nothing" the
same rows with labels of their own. LEACE is fitted to one half of the linear rows, and what it
leaves is read in the other.

    python -m bench.pages.probing
"""

import jax
import numpy as np

import erasejax as ej

KEY = jax.random.key(0)
PROBES = {
    "logistic": ej.probes.Logistic(l2=1e-2),
    "logistic, l2 = 1": ej.probes.Logistic(l2=1.0),
}


def rows() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Returns features, labels and groups by name."""
    random = np.random.default_rng(0)
    dataset = ej.datasets.GaussianClasses(rows=1000, dims=16, separation=3.0)
    fit, other = (dataset.sample(KEY, part=part) for part in (0, 1))
    types = np.repeat(np.arange(100), 16)
    words = random.normal(size=(100, 128))[types] + 0.5 * random.normal(size=(1600, 128))
    x, z = np.asarray(other.x), np.asarray(other.z)
    return {
        "linear": (x, z, None),
        "linear, LEACE": (np.asarray(ej.LEACE().fit(fit)(other.x)), z, None),
        "nothing": (x, random.integers(0, 2, len(z)), None),
        "words": (words.astype(np.float32), types % 2, types),
    }


def main() -> None:
    print(
        "| rows | probe | accuracy | control | selectivity | compression | null | V-information |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for name, (x, z, groups) in rows().items():
        for kind, probe in PROBES.items():
            task = ej.metrics.selectivity(probe, x, z, groups=groups, controls=5, key=KEY)
            code = ej.metrics.codelength(probe, x, z, key=KEY)
            gain = ej.metrics.v_information(probe, x, z, key=KEY)
            print(
                f"| {name} | {kind} | {task.accuracy:.3f} | {task.control:.3f} "
                f"| {task.selectivity:.3f} ± {task.high - task.selectivity:.3f} "
                f"| {code.compression:.2f} | {code.uniform / code.null:.2f} "
                f"| {gain.bits:.3f} ± {gain.high - gain.bits:.3f} |"
            )


if __name__ == "__main__":
    main()
