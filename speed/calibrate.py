"""What this device costs, for the table that training and search read (llmrec/lm/device_costs.yaml).

    python -m speed.calibrate [--write FILE]

Measures seconds of a forward and of a training pass of a small model over rows of tokens of several lengths,
and fits ``start + tokens * each``; the rates of a matrix product, of gathering rows and of starting an
operator; and, where the layers can be compiled, seconds of that. The column's ``measured`` part is printed as
YAML with the values that follow from it beside those in force, or written to a file. The values in force do
not change by this: micro-batches decide draws and rounding, so a person puts them into the table. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from pathlib import Path

import numpy as np
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from llmrec.lm.device_costs import costs_of
from speed.gpu_work import seconds

LENGTHS, REPEATS = (64, 256, 1024), 5
WIDTH, LAYERS, VOCABULARY = 256, 6, 16384


def passes(device: str) -> dict[str, float]:
    """Seconds that a forward and a training pass take to start, and per token."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    torch.manual_seed(0)
    body = LlamaForCausalLM(config).model.to(device)
    forward, training = [], []
    for length in LENGTHS:
        ids_1T = torch.zeros(1, length, dtype=torch.long, device=device)

        def ahead(ids_1T: torch.Tensor = ids_1T) -> None:
            with torch.no_grad():
                body(input_ids=ids_1T, use_cache=False)

        def there_and_back(ids_1T: torch.Tensor = ids_1T) -> None:
            body(input_ids=ids_1T, use_cache=False).last_hidden_state.sum().backward()

        forward.append(seconds(ahead, device, REPEATS))
        training.append(seconds(there_and_back, device, REPEATS))
    found = {}
    for name, times in (("forward", forward), ("training", training)):
        each, start = np.polyfit(LENGTHS, times, 1)
        found |= {f"{name}_start": max(float(start), 0.0), f"{name}_each": float(each)}
    return found


def rates(device: str) -> dict[str, float]:
    """Multiply-adds a second of a product, numbers a second of a gather, seconds of starting an operator."""
    table = torch.randn(VOCABULARY, WIDTH, device=device)
    rows = torch.randperm(VOCABULARY, device=device)[:4096]
    states, one = torch.randn(512, WIDTH, device=device), torch.ones(1, device=device)
    picked = table[rows]
    product = seconds(lambda: states @ picked.T, device, REPEATS)
    gather = seconds(lambda: table.index_select(0, rows), device, REPEATS)
    starts = seconds(lambda: [one + 1 for _ in range(1000)], device, REPEATS)
    return {
        "multiply_adds_a_second": 512 * 4096 * WIDTH / product,
        "gathered_numbers_a_second": 4096 * WIDTH / gather,
        "operator_seconds": starts / 1000,
    }


def derived(found: dict[str, float]) -> dict[str, float]:
    """The table's values that follow from the figures, as far as they do."""
    rate = found["multiply_adds_a_second"]
    return {
        "pass_tokens": found["forward_start"] / found["forward_each"],
        "gather_cost": 2 * rate / found["gathered_numbers_a_second"],
        "block_cost": 12 * found["operator_seconds"] * rate / WIDTH,
        "layer_seconds": found["forward_start"] / LAYERS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, help="a file for the column, instead of printing it")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    figures = passes(device) | rates(device)
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    measured = {
        "machine": f"{name}, {torch.get_num_threads()} thread(s), torch {torch.__version__}",
        "date": datetime.date.today().isoformat(),
        "figures": {key: float(f"{value:.3g}") for key, value in figures.items()},
        "derived": {key: float(f"{value:.3g}") for key, value in derived(figures).items()},
    }
    in_force = {key: getattr(costs_of(device), key) for key in measured["derived"]}
    column = yaml.safe_dump({device: {"measured": [measured]}}, sort_keys=False)
    if options.write:
        options.write.write_text(column, encoding="utf-8")
    else:
        print(column)
    print(json.dumps({"calibrate": measured, "in_force": in_force}))


if __name__ == "__main__":
    main()
