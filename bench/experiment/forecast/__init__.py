"""What a cell will take, foretold from rows that are known, a calibration and the methods' estimates."""

from bench.experiment.forecast.beside import beside
from bench.experiment.forecast.calibration import Calibration, calibration_path
from bench.experiment.forecast.forecast import UNKNOWN, UNKNOWN_SECONDS, Forecast
from bench.experiment.forecast.forecaster import Forecaster
from bench.experiment.forecast.known import Known, device_of, history_of, machines, spent

__all__ = [
    "UNKNOWN",
    "UNKNOWN_SECONDS",
    "Calibration",
    "Forecast",
    "Forecaster",
    "Known",
    "beside",
    "calibration_path",
    "device_of",
    "history_of",
    "machines",
    "spent",
]
