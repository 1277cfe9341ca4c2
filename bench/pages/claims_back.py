"""What brings an erased concept back: later layers, coarse dtypes and rounding (claims g and h)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import erasejax as ej
from bench.pages.trials import PROBES, accuracy, over_seeds, through

__all__ = ["back", "half_precision", "one_axis", "rounding"]


def layer_norm(x: jax.Array) -> jax.Array:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred / jnp.sqrt(jnp.mean(centred**2, axis=-1, keepdims=True))


AFTER = {
    "nothing": lambda x: x,
    "layer norm": layer_norm,
    "unit rows": lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True),
    "ReLU": jax.nn.relu,
    "bfloat16": lambda x: x.astype(jnp.bfloat16),
}


def spread_classes(rows: int = 500, dims: int = 16) -> Any:
    """Returns a sampler of classes of unequal spread, with a mean of their own."""
    dataset = ej.datasets.XorClasses(separation=0.0, spread=2.0, gap=2.0, rows=rows, dims=dims)

    def sample(key, part=0):
        data = dataset.sample(key, part=part)
        center = 2 * jax.random.normal(jax.random.fold_in(key, 5), (dims,))
        return data.replace(x=data.x + center)

    return sample


def back(quick: bool) -> dict:
    """(g) A non-affine map after the eraser: in-sample R^2 and accuracy on fresh rows."""
    sample = spread_classes()

    def trial(key):
        data, scored = sample(key), sample(key, 1)
        eraser = ej.LEACE().fit(data)
        out = {}
        for name, then in AFTER.items():
            after = data.replace(x=then(eraser(data.x)))
            fresh = scored.replace(x=then(eraser(scored.x)))
            out[name] = (
                ej.metrics.linear_r2(after),
                accuracy(PROBES["logistic"], after, fresh, key),
            )
        before = data.replace(x=layer_norm(data.x))
        normed = through(ej.LEACE().fit(before), before)
        fresh = scored.replace(x=layer_norm(scored.x))
        out["layer norm first"] = (
            ej.metrics.linear_r2(normed),
            accuracy(PROBES["logistic"], normed, through(ej.LEACE().fit(before), fresh), key),
        )
        return out

    found = over_seeds(trial, 4 if quick else 64, batch=16)
    return {name: [float(v.mean()) for v in pair] for name, pair in found.items()}


def half_precision(quick: bool) -> dict:
    """(g) In-sample R^2 and accuracy of least squares on rows erased and written in a dtype."""

    def trial(key, rows, dims, dtype):
        z = jnp.arange(rows) % 2
        x = (jax.random.normal(key, (rows, dims)) + 0.3 * z[:, None]).astype(dtype)
        data = ej.Dataset(ej.LEACE().fit(x, z, num_classes=2)(x).astype(jnp.float32), z, 2)
        return ej.metrics.linear_r2(data), accuracy(PROBES["least squares"], data, data, key)

    found = {}
    for rows, dims in ((256, 512), (1000, 32)):
        for dtype in ("bfloat16", "float16", "float32"):
            run = functools.partial(trial, rows=rows, dims=dims, dtype=dtype)
            pair = over_seeds(run, 2 if quick else 8, batch=8)
            found[f"{rows} x {dims}, {dtype}"] = [float(v.mean()) for v in pair]
    return found


def once(eraser: ej.Projection, x: jax.Array) -> jax.Array:
    """Returns x - K T^T (x - b) as the formula says, without reading what is left."""
    read = jnp.matmul(x - eraser.center, eraser.test, precision="highest")
    return x - jnp.matmul(read, eraser.kernel.T, precision="highest")


def rounding(quick: bool) -> dict:
    """(h) Accuracy of least squares on erased rows: numpy in float32, and here."""
    dataset = ej.datasets.GaussianClasses(rows=500, dims=16)

    def trial(key):
        data = dataset.sample(key)
        eraser = ej.MeanDifference().fit(data)
        erased = through(eraser, data)
        ours = accuracy(PROBES["least squares"], erased, erased, key)
        return erased.x, once(eraser, data.x), data.z, ours

    xs, projected_once, zs, ours = over_seeds(trial, 32 if quick else 200, batch=50)
    found: dict = {"erasejax": ours.tolist()}
    for name, rows, cut in (
        ("numpy, cut at 1e-4", xs, 1e-4),
        ("numpy as it comes", xs, None),
        ("the same, projected once", projected_once, None),
    ):
        found[name] = []
        for x, z in zip(rows, zs, strict=True):
            design = np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1)
            weight = np.linalg.lstsq(design, (2 * z - 1).astype(np.float32), rcond=cut)[0]
            found[name].append(float(np.mean((design @ weight > 0) == z)))
    for name, scores in found.items():
        print(f"rounding, {name}: {np.min(scores)} to {np.max(scores)}, mean {np.mean(scores):.3f}")
    return found


def one_axis(quick: bool) -> dict:
    """(h) Least squares on erased rows where the classes differ in one feature of three."""

    def trial(key):
        z = jnp.arange(10_000) % 2
        x = jax.random.normal(key, (len(z), 3)).at[:, 0].add(2.0 * z)
        data = ej.Dataset(x, z, 2)
        eraser = ej.LEACE().fit(data)
        rows = {"erasejax": eraser(x), "projected once": once(eraser, x)}
        found = {}
        for name, erased in rows.items():
            left = data.replace(x=erased)  # pyright: ignore[reportAttributeAccessIssue]
            found[name] = accuracy(PROBES["least squares"], left, left, key)
        return found

    found = over_seeds(trial, 64 if quick else 2000, batch=50)
    return {
        name: {"not 0.5": int(np.sum(v != 0.5)), "of": len(v), "highest": float(v.max())}
        for name, v in found.items()
    }
