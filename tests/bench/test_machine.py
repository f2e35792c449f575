from bench.results import machine


def test_a_gpu_is_named_with_its_memory_and_driver(monkeypatch):
    lines = ["NVIDIA H100 80GB HBM3, 81559, 550.54.15", "Tesla T4, [N/A], 535.1"]
    monkeypatch.setattr(machine, "_asked", lambda what: lines)
    machine.gpu_names.cache_clear()
    found = machine.gpu_names()
    machine.gpu_names.cache_clear()
    assert found[0] == "NVIDIA H100 80GB HBM3 (80 GiB, driver 550.54.15)"
    assert found[1] == "Tesla T4 (driver 535.1)"
