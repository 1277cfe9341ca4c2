"""The moments of rows by one program, whatever method asks for them."""

from erasejax._core.programs import program
from erasejax.rows import Dataset
from erasejax.statistics._moments import Moments

__all__ = ["shared_moments"]


def shared_moments(data: Dataset, *, covariance: bool | None) -> Moments | None:
    """Returns the moments of rows in a buffer, by a program that all methods share.

    Half of what a closed form compiles are the moments of the rows, and a table is asked more than
    one question.

    Args:
      data: rows; None is returned where they lie in no buffer, as those that the caller traces.
      covariance: whether the covariance is read, too, which with fewer rows than features nobody
        does who shares; None where no moments are.
    """
    if covariance is None or data.room is None or (covariance and data.room.few):
        return None
    return _shared(data.replace(task=None), covariance)


@program(static_argnums=1)
def _shared(data: Dataset, covariance: bool) -> Moments:
    return Moments.of(data, covariance=covariance)
