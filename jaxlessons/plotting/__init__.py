"""Every figure; the one package that draws. Each function returns a figure for `save_figure`."""

from jaxlessons.plotting.curves import plot_curves, plot_line, plot_lr_find
from jaxlessons.plotting.heatmaps import plot_heatmaps, plot_zoom
from jaxlessons.plotting.results import (
    plot_accuracies,
    plot_comparison,
    plot_confusion,
    plot_predictions,
    plot_reliability,
    plot_shares,
)
from jaxlessons.plotting.saving import save_figure
from jaxlessons.plotting.schedules import plot_schedule, plot_schedules
from jaxlessons.plotting.speed import plot_growth, plot_speeds
from jaxlessons.plotting.style import plot_loss_parts, plot_losses, plot_pictures
from jaxlessons.plotting.text import plot_reactions

__all__ = [
    "plot_accuracies",
    "plot_comparison",
    "plot_confusion",
    "plot_curves",
    "plot_growth",
    "plot_heatmaps",
    "plot_line",
    "plot_loss_parts",
    "plot_losses",
    "plot_lr_find",
    "plot_pictures",
    "plot_predictions",
    "plot_reactions",
    "plot_reliability",
    "plot_schedule",
    "plot_schedules",
    "plot_shares",
    "plot_speeds",
    "plot_zoom",
    "save_figure",
]
