"""Projection, the one form every linear eraser has, and `oblique`, the one way to make it.

r(x) = x - K T^T (x - b) with T^T K = I. The columns of the kernel K span what is destroyed, the
test directions T read it, b is the point that stays where it is. Whatever T is, r destroys the span
of K exactly: an inexact T costs damage, never guardedness.
"""

from erasejax.projection._oblique import erased_whole, oblique
from erasejax.projection._projection import Projection
from erasejax.projection._small_rests import small_rests
from erasejax.projection._traced import TracedProjection

__all__ = ["Projection", "TracedProjection", "erased_whole", "oblique", "small_rests"]
