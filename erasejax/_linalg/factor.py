"""Cholesky factors and triangular solves, small programs at every size.

Large matrices are cut into tiles of one size, and loops go over them, so that a program grows with
neither the matrix nor the right-hand sides. A TPU needs that, whose own routines are unrolled. On a
CPU the threads that its BLAS starts go on spinning for some 30 ms after each call, on cores that
the next program wants; tiles are small enough for one thread. On a GPU its own routines are one
call.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from erasejax._linalg import platforms
from erasejax._linalg.products import product

__all__ = ["cholesky", "triangular_solve"]


_ONE_CALL = 192  # columns that LAPACK factorises in one thread
_TILE = 128  # columns of a tile, at most
_FEW = 4  # right-hand sides that the BLAS solves for in one thread
_MANY = 8  # right-hand sides from which on XLA's products on a CPU are blocked
_SHORT = 1024  # columns up to which one right-hand side is no worse in one call


def cholesky(matrix: jax.Array) -> jax.Array:
    """Returns the Cholesky factor of a positive definite matrix (d, d)."""
    if matrix.shape[0] <= _ONE_CALL:
        return _factor(matrix)
    return platforms.choose(matrix, cpu=_factor_tiles, gpu=_factor, tpu=_factor_tiles)


def triangular_solve(lower: jax.Array, rhs: jax.Array, *, transpose: bool = False) -> jax.Array:
    """Returns L^-1 B, or L^-T B, for a lower triangular L (d, d) and B (d, m)."""
    solve = partial(_solve, transpose=transpose)
    d, m = rhs.shape
    # What a loop makes differs from device to device where L does, and so must what it starts from.
    rhs = rhs + jnp.zeros_like(lower[:, :1])
    if d <= _ONE_CALL:
        if m <= _FEW:
            return solve(lower, rhs)
        few = partial(_solve_few, transpose=transpose)
        return platforms.choose(lower, rhs, cpu=few, gpu=solve, tpu=solve)
    tiles = partial(_solve_tiles, transpose=transpose)
    cpu = solve if m == 1 and d <= _SHORT else tiles
    return platforms.choose(lower, rhs, cpu=cpu, gpu=solve, tpu=tiles)


def _factor(matrix: jax.Array) -> jax.Array:
    """Returns the Cholesky factor in one call."""
    # LAPACK reads columns, and so the transpose, which is equal, as it lies.
    return jnp.linalg.cholesky(matrix.T, symmetrize_input=False)


def _factor_tiles(matrix: jax.Array) -> jax.Array:
    """Returns the Cholesky factor by tiles on and below the diagonal."""
    d = matrix.shape[0]
    count = -(-d // _TILE)
    size = -(-d // count)
    # The rest of the last tile is filled with ones on the diagonal.
    padded = jnp.pad(matrix, (0, count * size - d))
    place = jnp.arange(count * size)
    padded = jnp.where((place[:, None] == place) & (place >= d), 1, padded)

    def tile(whole, i, j):
        return lax.dynamic_slice(whole, (i * size, j * size), (size, size))

    def put(whole, part, i, j):
        return lax.dynamic_update_slice(whole, part, (i * size, j * size))

    def column(j, whole):
        corner = _factor(tile(whole, j, j))
        inverse = triangular_solve(corner, jnp.eye(size, dtype=corner.dtype))

        def row(i, whole):
            own = tile(whole, i, j)
            # A product with an inverse is backward stable only when corrected once: the tile may
            # be as ill conditioned as the whole.
            found = product("ik,jk->ij", own, inverse)
            rest = own - product("ik,jk->ij", found, corner)
            found = found + product("ik,jk->ij", rest, inverse)

            def subtract(k, whole):
                update = product("ik,jk->ij", found, tile(whole, k, j))
                return put(whole, tile(whole, i, k) - update, i, k)

            return lax.fori_loop(j + 1, i + 1, subtract, put(whole, found, i, j))

        return lax.fori_loop(j + 1, count, row, put(whole, corner, j, j))

    return jnp.tril(lax.fori_loop(0, count, column, padded)[:d, :d])


def _solve(lower: jax.Array, rhs: jax.Array, *, transpose: bool) -> jax.Array:
    """Returns L^-1 B, or L^-T B, in one call."""
    return lax.linalg.triangular_solve(
        lower, rhs, left_side=True, lower=True, transpose_a=transpose
    )


def _solve_few(lower: jax.Array, rhs: jax.Array, *, transpose: bool) -> jax.Array:
    """Returns the same, a few right-hand sides after the other."""
    m = rhs.shape[1]
    count = -(-m // _FEW)

    def step(i, solved):
        few = lax.dynamic_slice_in_dim(solved, i * _FEW, _FEW, 1)
        few = _solve(lower, few, transpose=transpose)
        return lax.dynamic_update_slice_in_dim(solved, few, i * _FEW, 1)

    rhs = jnp.pad(rhs, ((0, 0), (0, count * _FEW - m)))
    return lax.fori_loop(0, count, step, rhs)[:, :m]


def _solve_tiles(lower: jax.Array, rhs: jax.Array, *, transpose: bool) -> jax.Array:
    """Returns the same by tiles on the diagonal, from the first or from the last.

    Where their size does not divide d, the last one starts early and solves for some rows twice.
    """
    d, m = rhs.shape
    count = -(-d // _TILE)
    size = -(-d // count)
    rhs = jnp.pad(rhs, ((0, 0), (0, max(_MANY - m, 0))))
    place = jnp.arange(d)

    def step(i, solved):
        start = jnp.minimum((count - 1 - i if transpose else i) * size, d - size)
        if transpose:
            rows = lax.dynamic_slice_in_dim(lower, start, size, 1).T
            rows = jnp.where(place >= start + size, rows, 0)
        else:
            rows = jnp.where(place < start, lax.dynamic_slice_in_dim(lower, start, size), 0)
        own = lax.dynamic_slice_in_dim(rhs, start, size) - product("ij,jm->im", rows, solved)
        corner = lax.dynamic_slice(lower, (start, start), (size, size))
        own = triangular_solve(corner, own, transpose=transpose)
        return lax.dynamic_update_slice_in_dim(solved, own, start, 0)

    return lax.fori_loop(0, count, step, jnp.zeros_like(rhs))[:, :m]
