"""Contrast pairs with a truth, a distractor and templates."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from erasejax._core.pytrees import static
from erasejax._core.types import Key
from erasejax._linalg.products import product
from erasejax.datasets._base import Generator, class_sizes, labels
from erasejax.datasets._turning import turned
from erasejax.rows import Pairs

__all__ = ["ContrastPairs"]


@struct.dataclass(kw_only=True)
class ContrastPairs(Generator[Pairs]):
    """Statements answered yes and no, of which yes is true in half.

    A pair shares its content, what the statement is about. The halves x+ and x- differ by what the
    pair says is true, by a distractor, by an offset for the answer itself, and by noise. Of the
    difference x+ - x-:

    - `truth` moves it one way along each of `directions` orthogonal directions where yes is true,
      and the other way where no is. Each has noise of its own, so more of them are more evidence
      (redundancy): an accuracy of Phi(truth / (2 noise)) along one, of Phi(sqrt(directions) truth /
      (2 noise)) along all together.
    - `distractor` does the same along one further direction for another balanced binary feature of
      the statement, independent of the truth: an appended word that means nothing but makes the two
      answers differ. A probe without labels cannot know which of the two is asked for, and returns
      the more prominent (Farquhar et al. 2023, arXiv 2312.10029).
    - `offset` moves all pairs of one template alike, each template by another vector: to a probe
      without labels one more prominent feature, unless each template is normalised by itself.

    All in units of x. Fixed by the key: the directions and the offsets.

    Attributes:
      truth: () distance of the class means of x+ - x- along one direction of the truth.
      distractor: () the same for the distractor; at 0 it is absent.
      noise: () standard deviation of each feature of x+ - x-.
      content: () standard deviation of each feature of what the two halves share.
      offset: () standard deviation of each feature of a template's offset of one half.
      rows: static; pairs of each label, one number for both or a tuple with one each.
      dims: static; number of features.
      directions: static; how many directions carry the truth, 1 to dims - 1.
      templates: static; number of templates. They take turns, independently of label and
        distractor where four times their number divides `rows`.
      rotate: static; False keeps the truth on the first features and the distractor on the next.

    Example:
      >>> pairs = ej.datasets.ContrastPairs(rows=3, dims=2, directions=1).sample(jax.random.key(0))
      >>> pairs.positive.shape, pairs.labels.tolist()
      ((6, 2), [0, 0, 0, 1, 1, 1])

    References:
      Burns et al. 2022, arXiv 2212.03827; Farquhar et al. 2023, arXiv 2312.10029.
    """

    name: ClassVar[str] = "contrast-pairs"

    truth: ArrayLike = 2.0
    distractor: ArrayLike = 0.0
    noise: ArrayLike = 1.0
    content: ArrayLike = 1.0
    offset: ArrayLike = 1.0
    rows: int | tuple[int, int] = static(100)
    dims: int = static(32)
    directions: int = static(4)
    templates: int = static(1)
    rotate: bool = static(True)

    def sample(self, key: Key, *, part: int | jax.Array = 0) -> Pairs:
        """Draws pairs.

        Args:
          key: a typed `jax.random.key`. It fixes the population (directions, offsets) as well as
            the rows.
          part: which independent set of pairs of that population.

        Returns:
          `Pairs` with float32 halves (float64 where jax's x64 mode is on), labels and distractor,
          sorted by label; templates where there are several.

        Raises:
          TypeError: key is no key.
          ValueError: it is several, or a size makes no sense.

        Under jit: pure; vmap over keys, parts or numeric fields.
        """
        return super().sample(key, part=part)

    def _sample(self, population: jax.Array, rows: jax.Array) -> Pairs:
        d, m = self.dims, self.directions
        if not 1 <= m <= d - 1:
            raise ValueError(f"directions: expected 1 to dims - 1 = {d - 1}, got {m}")
        if self.templates < 1:
            raise ValueError(f"templates: expected at least 1, got {self.templates}")
        sizes = class_sizes(self.rows, 2)
        z = labels(sizes)
        within = np.concatenate([np.arange(size) for size in sizes])
        distractor = jnp.asarray(within % 2, jnp.int32)
        template = jnp.asarray(within // 2 % self.templates, jnp.int32)
        n = len(z)

        noise = jnp.asarray(self.noise)
        key_turn, key_offset = jax.random.split(population)
        key_content, key_noise = jax.random.split(rows)
        keys_own = jax.random.split(key_noise)

        def draw(key, *shape):
            return jax.random.normal(key, shape, noise.dtype)

        content = jnp.asarray(self.content) * draw(key_content, n, d)
        own = noise * jnp.sqrt(jnp.asarray(0.5, noise.dtype))
        offset = jnp.asarray(self.offset) * draw(key_offset, 2, self.templates, d)
        frame = jnp.eye(m + 1, d, dtype=noise.dtype)
        if self.rotate:
            frame = turned(key_turn, frame, m + 1)
        # A quarter each way in either half: the means of the difference lie the whole apart.
        of_truth = np.arange(m + 1) < m
        moves = jnp.where(of_truth, jnp.asarray(self.truth), jnp.asarray(self.distractor)) / 4
        says = 2 * jnp.where(of_truth, z[:, None], distractor[:, None]) - 1
        of_template = template[:, None] == np.arange(self.templates)
        moved = jnp.concatenate([moves * says, of_template.astype(noise.dtype)], axis=1)

        def half(given: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            sign, key, offset = given
            moves = jnp.concatenate([sign * frame, offset])
            return content + own * draw(key, n, d) + product("nm,md->nd", moved, moves)

        # In a loop the content is drawn once, not for each half.
        signs = jnp.asarray([1, -1], noise.dtype)
        positive, negative = jax.lax.map(half, (signs, keys_own, offset))
        return Pairs(
            positive=positive,
            negative=negative,
            labels=z,
            templates=template if self.templates > 1 else None,
            distractor=distractor,
            num_templates=self.templates if self.templates > 1 else None,
        )
