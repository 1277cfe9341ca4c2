"""How pictures look: colours and lines.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart; lines also differ in
dash, and classes in marker.
"""

__all__ = ["CHANCE", "COLOURS", "LINES", "MARKERS"]

COLOURS = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "red": "#D55E00",
    "pink": "#CC79A7",
}
LINES = (  # colour and dash of lines side by side
    (COLOURS["black"], "-"),
    (COLOURS["blue"], "-"),
    (COLOURS["red"], "--"),
    (COLOURS["green"], "-."),
    (COLOURS["pink"], ":"),
    (COLOURS["sky"], "-"),
    (COLOURS["orange"], "--"),
    (COLOURS["black"], ":"),
    (COLOURS["blue"], ":"),
    (COLOURS["red"], "-."),
)
CHANCE = {"color": COLOURS["black"], "lw": 1, "ls": (0, (4, 3))}  # what knowing nothing scores
MARKERS = "o^sDvP*X"  # of classes side by side, in the colours of lines but the first
