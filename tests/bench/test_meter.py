"""Costs of a phase: like is subtracted from like, and parts of a phase add up."""

import pytest

from bench.execution import meter
from bench.execution.meter import Energy, Meter


@pytest.fixture
def package(tmp_path, monkeypatch):
    """One CPU package whose counter is full at 1000 J; set it with joules."""
    home = tmp_path / "intel-rapl:0"
    home.mkdir()
    (home / "max_energy_range_uj").write_text("1000000000")
    monkeypatch.setattr(meter, "RAPL", tmp_path)
    monkeypatch.setattr(meter, "_nvml_joules", lambda: None)
    return lambda joules: (home / "energy_uj").write_text(str(int(joules * 1e6)))


def test_a_full_counter_starts_again_at_zero(package):
    package(900)
    start = Energy()
    package(950)
    assert Energy().since(start) == pytest.approx(50)
    package(30)
    assert Energy().since(start) == pytest.approx(130)


def test_a_gpu_opened_during_the_phase_is_charged_from_its_own_counter(package, monkeypatch):
    package(100)
    gpu = iter([7000.0, 7250.0])
    monkeypatch.setattr(meter, "_nvml_joules", lambda: next(gpu))
    monkeypatch.setattr(meter, "_reset_gpu_peak", lambda: None)
    monkeypatch.setattr(meter, "_gpu_peak", lambda: 5.0)
    bench = Meter()
    with bench.phase("fit"):
        package(160)
        monkeypatch.setattr(meter, "_cuda", lambda: object())
    assert bench.cost["fit"]["joules"] == 250.0


def test_unknown_energy_is_none_and_parts_add_up(tmp_path, monkeypatch):
    monkeypatch.setattr(meter, "RAPL", tmp_path / "nowhere")
    bench = Meter()
    bench.add("fit", {"seconds": 10.0, "peak_host_bytes": 1e15, "joules": 3.0})
    with bench.phase("fit") as reading:
        assert reading.bill()["seconds"] >= 0
    cost = bench.cost["fit"]
    assert cost["seconds"] >= 10.0
    assert cost["peak_host_bytes"] == 1e15
    assert cost["joules"] is None
