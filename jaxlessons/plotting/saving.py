"""Figures as files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

from jaxlessons.files import replacing
from jaxlessons.quiet import QUIET


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG, replacing an older one only when it is whole. Needs no screen.

    Texts are shown as they are: a class or a file may have two $ in its name, between which
    matplotlib would look for mathematics. The powers of ten at a logarithmic axis are mathematics.
    """
    FigureCanvasAgg(figure)
    powers = {
        text
        for axes in figure.findobj(Axes)
        for axis in (axes.xaxis, axes.yaxis)
        if isinstance(axis.get_major_formatter(), LogFormatter)
        for text in axis.findobj(Text)
    }
    for text in figure.findobj(Text):
        text.set_parse_math(text in powers)
    # A script that the font lacks is shown as boxes; there is no use in a line for each letter.
    with QUIET, replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
