"""Operator calls and host reads of a piece of work, counted on any device.

    python -m speed.operators [--layers 30] [--rows 16]

A GPU waits for its host at every read of a tensor's values, and every operator call costs the host some
microseconds; on a CPU both can be counted, which tells in advance what the GPU will wait for. Run as a
script, it counts a training step of a deep and narrow model with adapters, its rows padded and end to end.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: PLC2701
from transformers import LlamaConfig, LlamaForCausalLM

from llmrec.lm.backbone import Backbone, load
from llmrec.lm.device_costs import costs_of
from llmrec.lm.lora import Lora, adapted
from llmrec.losses.msl import MSL
from llmrec.prompt import Prompt
from llmrec.training.batch_loss import TokenBatchLoss
from llmrec.training.packing import Example
from llmrec.trie import Trie

# operators whose result, or its shape, the host has to wait for
WAITING = frozenset(
    {
        "aten._local_scalar_dense",
        "aten.nonzero",
        "aten._unique2",
        "aten.unique_consecutive",
        "aten.masked_select",
        "aten.bincount",
        "aten.repeat_interleave.Tensor",
        "aten.equal",
    }
)
READS = frozenset({"cpu", "numpy", "tolist", "item", "__bool__", "__int__", "__float__"})
COPIES_IN = frozenset({"as_tensor", "tensor", "from_numpy"})


class Operators(TorchDispatchMode):
    """Counts every operator that is called within it, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.calls[str(func).removesuffix(".default")] += 1
        return func(*args, **(kwargs or {}))

    @property
    def waits(self) -> int:
        """Calls that a host would wait for."""
        return sum(count for name, count in self.calls.items() if name in WAITING)


class Crossings(TorchFunctionMode):
    """Counts what crosses between host and device within it: values read, and arrays handed over."""

    def __init__(self) -> None:
        super().__init__()
        self.reads, self.copies_in = 0, 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        self.reads += name in READS
        self.copies_in += name in COPIES_IN
        return func(*args, **(kwargs or {}))


def counted(work: Callable[[], Any], *, gradients: bool = False) -> dict[str, int]:
    """Operator calls, calls that wait, values read by the host and arrays handed to the device.

    Args:
        work: what is counted.
        gradients: whether it needs them.
    """
    operators, crossings = Operators(), Crossings()
    with torch.set_grad_enabled(gradients), crossings, operators:
        work()
    return {
        "operators": operators.calls.total(),
        "waits": operators.waits,
        "host_reads": crossings.reads,
        "copies_in": crossings.copies_in,
    }


def rows_of(n_rows: int, opening: int) -> tuple[Trie, list[Example]]:
    """Random answers, and random rows of different length behind one opening."""
    chance, end = np.random.default_rng(0), 1
    paths = [[3, *chance.integers(4, 40, chance.integers(1, 8)), end] for _ in range(400)]
    trie, rows = Trie.of(paths, end), []
    first_S = chance.integers(50, 500, opening)
    for number in range(n_rows):
        rest = chance.integers(50, 500, chance.integers(20, 160))
        ids = np.concatenate([first_S, rest]).astype(np.int32)
        leaf = int(chance.integers(trie.n_leaves))
        rows.append(Example(Prompt(ids, np.zeros_like(ids)), leaf, number=number))
    return trie, rows


def step_counts(layers: int, n_rows: int, opening: int = 30) -> dict[str, dict[str, int]]:
    """Counts of a training step of a deep and narrow model under MSL, by layout of its rows.

    Args:
        layers: of the model.
        n_rows: of the step.
        opening: tokens that all prompts share.
    """
    trie, rows = rows_of(n_rows, opening)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = adapted(LlamaForCausalLM(config), Lora(dropout=0.0), seed=0)
    lm = Backbone(model, load("tiny").tokenizer, name="deep", pretrained=False).train()
    found = {}
    for name, packed in (("padded", 0), ("end_to_end", costs_of("cuda").packed_tokens)):
        loss = MSL(None, trie, vocabulary=512, avt=2.0)
        batch_loss = TokenBatchLoss(loss, trie, shared=opening, packed=packed)

        def step(batch_loss: TokenBatchLoss = batch_loss) -> None:
            lm.zero_grad()
            for part in batch_loss.parts(rows, n_rows):
                batch_loss.sum(lm, part).backward()
            batch_loss.settle(lm, 0.0)

        step()  # what is made once is not a step's
        found[name] = counted(step, gradients=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--rows", type=int, default=16)
    options = parser.parse_args()
    found = step_counts(options.layers, options.rows)
    for name, counts in found.items():
        print(name, counts, flush=True)
    print(json.dumps({"step_operators": found, "layers": options.layers, "rows": options.rows}))


if __name__ == "__main__":
    main()
