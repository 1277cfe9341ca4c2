"""Pictures that people make, on matplotlib axes, without pyplot and global state.

It is low in the house, since results below `pages` draw themselves by it: it takes tables and
arrays, and knows none of their classes.
"""

from erasejax.plot._before_after import before_after
from erasejax.plot._curve import curve
from erasejax.plot._curve import draw_means as draw_means
from erasejax.plot._curve import draw_table as draw_table
from erasejax.plot._curve import finish_curve as finish_curve
from erasejax.plot._figure import blank as blank
from erasejax.plot._figure import legend as legend
from erasejax.plot._figure import open_axes as open_axes
from erasejax.plot._figure import save as save
from erasejax.plot._heat_map import draw_heat as draw_heat
from erasejax.plot._heat_map import heat_map
from erasejax.plot._layers import LAYER as LAYER
from erasejax.plot._layers import along_layers as along_layers
from erasejax.plot._layers import layer_numbers as layer_numbers
from erasejax.plot._style import CHANCE as CHANCE
from erasejax.plot._style import COLOURS as COLOURS
from erasejax.plot._style import LINES as LINES
from erasejax.plot._table import Frame as Frame
from erasejax.plot._table import axes_of as axes_of
from erasejax.plot._table import chance_of as chance_of
from erasejax.plot._table import chosen as chosen
from erasejax.plot._table import groups as groups
from erasejax.plot._table import means as means
from erasejax.plot._table import split_axes as split_axes

__all__ = ["before_after", "curve", "heat_map"]
