"""Random orthogonal maps of rows, at little more than the cost of the rows themselves."""

import jax
import jax.numpy as jnp

from erasejax._linalg.products import product, safe_reciprocal

__all__ = ["mixed", "turned"]

_LEADING = 16  # eigenvectors that no axis is nearer to than another


def turned(key: jax.Array, x: jax.Array, count: int) -> jax.Array:
    """Returns rows turned so that the first axes go to a uniformly random orthonormal frame.

    Where the other axes go follows from it. Rows that are isotropic noise along those are as if a
    uniformly random orthogonal matrix had turned them, which costs d^3 to draw. With `count` of d
    the map is that.

    It is a product of reflections. The j-th takes axis j to a uniformly random unit vector that is
    orthogonal to the axes before it (Stewart 1980).

    Args:
      key: of the map.
      x: (n, d).
      count: how many axes, 1 to d.
    """
    d = x.shape[1]
    free = jnp.arange(d) >= jnp.arange(count)[:, None]
    aims = jnp.where(free, jax.random.normal(key, (count, d), x.dtype), 0)
    aims = aims / jnp.linalg.norm(aims, axis=1, keepdims=True)
    normals = aims - jnp.eye(count, d, dtype=x.dtype)
    length = jnp.linalg.norm(normals, axis=1, keepdims=True)
    normals = normals * safe_reciprocal(length, length > 0)  # an axis may stay where it is

    def reflect(x: jax.Array, normal: jax.Array) -> tuple[jax.Array, None]:
        return x - 2 * product("nd,d->n", x, normal)[:, None] * normal, None

    # A loop also keeps its rows: a product of all reflections reads them twice, and XLA draws them
    # again for each reader.
    return jax.lax.scan(reflect, x, normals, reverse=True)[0]


def mixed(key: jax.Array, x: jax.Array) -> jax.Array:
    """Returns rows turned so that every axis is spread over all features.

    The first 16 axes, or all of up to 16, go to a uniformly random orthonormal frame. The others go
    to the vectors of a Hartley transform, which is a Fourier transform of real numbers, with random
    signs, but for what the frame takes of them.

    Args:
      key: of the map.
      x: (n, d).
    """
    key_signs, key_turn = jax.random.split(key)
    signs = jax.random.rademacher(key_signs, x.shape[1:], x.dtype)
    # What any orthogonal map makes of a uniformly random frame is one.
    return _hartley(turned(key_turn, x, min(_LEADING, x.shape[1]))) * signs


def _hartley(x: jax.Array) -> jax.Array:
    """Returns the orthogonal Hartley transform of each row, in d log d."""
    found = jnp.fft.rfft(x, norm="ortho")
    mirrored = (found.real + found.imag)[:, 1 : (x.shape[1] + 1) // 2]
    return jnp.concatenate([found.real - found.imag, mirrored[:, ::-1]], axis=1)
