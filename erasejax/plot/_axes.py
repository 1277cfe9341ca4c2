"""Axes that a notebook shows by themselves, since their figure belongs to no pyplot."""

import io

from matplotlib.axes import Axes

from erasejax.plot._figure import save

__all__ = ["ShownAxes"]


class ShownAxes(Axes):
    """Axes whose figure is shown where they are the last value of a cell."""

    def _repr_png_(self) -> bytes:
        drawn, figure = io.BytesIO(), self.get_figure(root=True)
        assert figure is not None
        save(figure, drawn)
        return drawn.getvalue()
