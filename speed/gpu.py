"""Every bar of a language model's training and search on this device, measured.

    BENCH_DATA=... python -m speed.gpu [--only 135m]

Models have the true shapes and random weights in bfloat16, adapters as in the paper's recipe, and read
real Book rows; the whole takes under three minutes on one GPU. A CPU runs tiny shapes instead, marked
"reduced", which shows equality and operator counts and no speed. A part that fails is told and the rest
goes on. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from llmrec.decode.base import Decoded, Decoder
from llmrec.decode.beam import Beam
from llmrec.decode.exact import Exact
from llmrec.decode.generate import Generate
from llmrec.lm.backbone import Backbone
from llmrec.lm.device_costs import costs_of
from llmrec.losses.lml import LML
from llmrec.losses.msl import MSL
from llmrec.preference.rows import PreferenceRow
from llmrec.preference.s_dpo import SDPO
from llmrec.preference.training import PreferenceBatchLoss
from llmrec.training.batch_loss import TokenBatchLoss
from llmrec.training.compiled import CompiledLayers
from llmrec.training.shared_prefix import LogProbs
from speed.gpu_work import REDUCED, SIZES, Work, seconds
from speed.operators import counted
from speed.quantised import quantised
from speed.trie_search import K

# the bars: seconds, or times
BARS = {
    "135m.step": 0.08,
    "8b.step": 0.15,
    "135m.s_dpo_over_lml": 1.3,
    "135m.beam": 0.5,
    "8b.beam": 0.6,
    "135m.exact_over_beam": 1.0,
    "8b.exact_over_beam": 1.0,
}
AT_LEAST = {"135m.generate_over_ours": 6.0}


NEGATIVES = 3


def training(work: Work, name: str, lm: Backbone, repeats: int) -> dict[str, Any]:
    """Seconds of one step under MSL, LML and S-DPO, padded and end to end, compiled and not."""
    lm.train()
    trie, rows = work.trie, work.rows[: work.sizes[name].rows]
    common: dict[str, Any] = {"vocabulary": lm.vocabulary, "avt": work.avt}
    packed = costs_of("cuda").packed_tokens
    token = {
        kind.name: TokenBatchLoss(
            kind(None, trie, **common), trie, shared=work.shared, packed=packed
        )
        for kind in (MSL, LML)
    }
    padded = TokenBatchLoss(MSL(None, trie, **common), trie, shared=work.shared)
    sdpo = SDPO(None, trie, **common)
    log_probs = LogProbs(sdpo, trie, work.shared, packed=packed)
    chance = np.random.default_rng(0)
    pairs = [
        PreferenceRow(row.prompt, leaf_J[None], np.full((1, NEGATIVES + 1), -20.0, np.float32))
        for row in rows
        for leaf_J in [np.append(row.leaf, chance.choice(trie.n_leaves, NEGATIVES, replace=False))]
    ]
    preference = PreferenceBatchLoss(sdpo, log_probs, steps_per_epoch=1)

    def step(batch_loss: Any, of: list[Any]) -> None:
        lm.zero_grad()
        count = batch_loss.count(of)
        for part in batch_loss.parts(of, len(of)):
            (batch_loss.sum(lm, part) / count).backward()
        batch_loss.settle(lm, 0.0)

    found: dict[str, Any] = {
        f"{name}.step_padded": seconds(lambda: step(padded, rows), work.device, repeats),
        f"{name}.step_eager": seconds(lambda: step(token["msl"], rows), work.device, repeats),
        f"{name}.padded_counts": counted(lambda: step(padded, rows), gradients=True),
        f"{name}.step_counts": counted(lambda: step(token["msl"], rows), gradients=True),
    }
    compiled = CompiledLayers(lm, wanted=work.device == "cuda")
    try:
        step(token["msl"], rows)
    except RuntimeError as fault:
        compiled.give_up(fault)
    found[f"{name}.compiled"] = compiled.fact
    found |= {
        f"{name}.step_{loss}": seconds(lambda one=one: step(one, rows), work.device, repeats)
        for loss, one in token.items()
    }
    found[f"{name}.step"] = found[f"{name}.step_msl"]
    s_dpo = seconds(lambda: step(preference, pairs), work.device, repeats)
    found[f"{name}.step_s_dpo"] = s_dpo
    found[f"{name}.s_dpo_over_lml"] = s_dpo / found[f"{name}.step_lml"]
    compiled.end()
    return found


def searching(work: Work, name: str, lm: Backbone, repeats: int) -> dict[str, Any]:
    """Seconds of both searches on the same users, and what they ask of the host."""
    lm.eval()
    prompts, beam, exact = work.prompts[: work.sizes[name].users], Beam({"audit": 0}), Exact()

    def decode(decoder: Decoder) -> Decoded:
        return decoder(lm, prompts, work.trie, K)

    times = [seconds(lambda d=d: decode(d), work.device, repeats) for d in (beam, exact)]
    return {
        f"{name}.users": len(prompts),
        f"{name}.beam": times[0],
        f"{name}.exact": times[1],
        f"{name}.exact_over_beam": times[1] / times[0],
        f"{name}.beam_counts": counted(lambda: decode(beam)),
        f"{name}.exact_counts": counted(lambda: decode(exact)),
    }


def comparing(work: Work, name: str) -> dict[str, Any]:
    """Ours and transformers' own search under the released rule, in float32."""
    if not (users := work.sizes[name].compared):
        return {}
    lm = work.model(name, torch.float32).eval()
    with torch.no_grad():  # a random model has no opinions: its neighbours in a list would be ties
        lm.causal.get_input_embeddings().weight.mul_(8.0)
    prompts, found, times = work.prompts[:users], [], []
    released: dict[str, Any] = {"length_penalty": 1.0}
    ours = Beam({"space": "full", "audit": 0, **released})
    for decoder in (ours, Generate({**released, "batch": users})):
        times.append(
            seconds(lambda d=decoder: found.append(d(lm, prompts, work.trie, K)), work.device, 1)
        )
    mine, theirs = found[1], found[-1]
    return {
        f"{name}.compared_users": users,
        f"{name}.same_ordered_lists": int((mine.leaf_QK == theirs.leaf_QK).all(1).sum()),
        f"{name}.score_gap": float(np.abs(mine.score_QK - theirs.score_QK).max()),
        f"{name}.released_ours": times[0],
        f"{name}.released_generate": times[1],
        f"{name}.generate_over_ours": times[1] / times[0],
    }


def report(work: Work, names: list[str], repeats: int) -> dict[str, Any]:
    """All figures; a part that fails leaves its fault in place of its figures."""
    found: dict[str, Any] = {}

    def part(name: str, measure: Callable[[], dict[str, Any]]) -> None:
        try:
            new = measure()
        except Exception as fault:  # the other bars are still worth having
            traceback.print_exc()
            new = {f"{name}.fault": f"{type(fault).__name__}: {fault}"[:300]}
        for key, value in new.items():
            print(f"{key:28} {value}", flush=True)
        found.update(new)

    for name in names:
        lm = work.model(name)
        part(f"{name}.search", lambda n=name, lm=lm: searching(work, n, lm, repeats))
        part(f"{name}.training", lambda n=name, lm=lm: training(work, n, lm, repeats))
        del lm
        if work.device == "cuda":
            torch.cuda.empty_cache()
    for name in names:
        part(f"{name}.compared", lambda n=name: comparing(work, n))
    part("quantised", lambda: quantised(work.device, work.prompts, work.trie))
    return found


def met(found: dict[str, Any]) -> dict[str, bool]:
    """Which bars hold, of those that were measured."""
    below = {name: found[name] <= bar for name, bar in BARS.items() if name in found}
    above = {name: found[name] >= bar for name, bar in AT_LEAST.items() if name in found}
    return below | above


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=sorted(SIZES), help="one size of model")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reduced = device == "cpu"
    names = [options.only] if options.only else list(SIZES)
    start = time.perf_counter()
    sizes = REDUCED if reduced else SIZES
    work = Work(device, {name: sizes[name] for name in names})
    found = report(work, names, options.repeats)
    about = {
        "device": "cpu" if reduced else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "reduced": reduced,
        "bars": {} if reduced else met(found),
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(json.dumps(about | found))


if __name__ == "__main__":
    main()
