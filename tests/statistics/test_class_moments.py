"""Moments class by class: streamed, merged, weighted, and what they refuse."""

import jax
import numpy as np
import pytest

import erasejax as ej
from tests.quadratic import SHAPES, classes, moments


@pytest.mark.slow
def test_class_moments_are_moments_however_the_rows_come():
    n, d, frequencies = SHAPES[1]
    x, z = classes(0, n, d, frequencies)
    weights = np.random.default_rng(0).integers(0, 3, n).astype("f4")
    broken = np.where(weights[:, None] > 0, x, np.nan).astype("f4")
    whole = ej.ClassMoments.init(d, 3).update(broken, z, weights)
    rows = np.repeat(np.arange(n), weights.astype(int))
    share, means, covariances = moments(x[rows], z[rows])
    assert int(whole.status) == 0
    np.testing.assert_allclose(whole.share, share, rtol=1e-6)
    np.testing.assert_allclose(whole.means, means, atol=1e-6 * np.abs(x).max())
    np.testing.assert_allclose(whole.covariances, covariances, atol=1e-6 * covariances.max())
    order = np.argsort(z, kind="stable")  # the first pieces lack classes
    pieces = [
        ej.ClassMoments.init(d, 3).update(broken[part], z[part], weights[part])
        for part in np.array_split(order, 4)
    ]
    merged = ej.merge(ej.merge(pieces[0], pieces[1]), ej.merge(pieces[2], pieces[3]))
    np.testing.assert_array_equal(merged.share, whole.share)
    np.testing.assert_allclose(merged.covariances, covariances, atol=1e-6 * covariances.max())
    plain = ej.Moments.init(d, 3, one_hot=True).update(x, z, weights)
    for found in (whole.overall, merged.overall):
        assert found.one_hot
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
            b = np.asarray(b, np.float64)
            np.testing.assert_allclose(a, b, atol=4e-6 * max(np.abs(b).max(), 1))
    ones = np.ones(n // 4, "f4")
    pieces = [ej.ClassMoments.init(d, 3).update(x[p], z[p], ones) for p in np.split(order, 4)]
    merged = ej.merge(ej.merge(pieces[0], pieces[1]), ej.merge(pieces[2], pieces[3]))
    for method in (ej.QLEACE(), ej.ALFQLEACE()):
        fitted, solved = method.fit(x, z), method.solve(merged)
        expected = fitted(x, z) if fitted.needs_z else fitted(x)
        got = solved(x, z) if solved.needs_z else solved(x)
        np.testing.assert_allclose(got, expected, atol=2e-4)


def test_class_moments_say_what_is_wrong():
    x, z = classes(0, *SHAPES[0])
    empty = ej.ClassMoments.init(5, 2)
    assert int(empty.update(x, np.where(z == 1, 7, z)).status) & ej.Status.LABEL_RANGE
    assert int(empty.update(x, z, -np.ones(len(z), "f4")).status) & ej.Status.NEGATIVE_WEIGHT
    assert int(ej.QLEACE().solve(empty).status) & ej.Status.NO_WEIGHT
    with pytest.raises(TypeError, match="class labels"):
        empty.update(x, z.astype("f4"))
    with pytest.raises(ValueError, match="d=5"):
        empty.update(x[:, :3], z)
    with pytest.raises(ValueError, match="differ"):
        ej.merge(empty, ej.ClassMoments.init(4, 2))
    with pytest.raises(TypeError, match="two of a kind"):
        ej.merge(empty, ej.Moments.init(5, 2))
    with pytest.raises(ValueError, match="2 classes"):
        ej.ClassMoments.init(5, 1)
    for method in (ej.QLEACE(), ej.ALFQLEACE()):
        with pytest.raises(TypeError, match="class labels"):
            method.fit(x, x[:, 0])
    with pytest.raises(ValueError, match="max_rank"):
        ej.ALFQLEACE(max_rank=6).fit(x, z)
    eraser = ej.QLEACE().fit(x, z)
    with pytest.raises(ValueError, match="5 features"):
        eraser(x[:, :3], z)
    with pytest.raises(TypeError, match="class labels"):
        eraser(x, z.astype("f4"))
    assert np.isnan(eraser(x[:1], np.array([2]))).all()
