"""Figures as files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxlessons.files import replacing


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG, replacing an older one only when it is whole. Needs no screen."""
    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
