#!/usr/bin/env python3
"""PyTorch + PEFT's side of the benchmark: the job of bench/step.mjs with the defaults that their users have.

usage: .venv/bin/python bench/peft/train_peft.py '{"model":DIR,"mode":"synthetic","batch":2,"seq":256,"steps":5}'
   or: .venv/bin/python bench/peft/train_peft.py '{"model":DIR,"mode":"data","data":FILE,"batch":8,"steps":20}'
Further keys: r (8), loraAlpha (16), targetModules ("all-linear"), attention ("sdpa"), threads (all cores).

The defaults are those of transformers' Trainer: SDPA attention, fused AdamW, clipping at 1.0, batches of shuffled rows
padded on the right to the longest, labels of -100 where nothing is supervised; float32, no gradient checkpointing. The
loop is written out: the Trainer's own would only be slower. Prints one JSON line with the keys of bench/step.mjs: tokens
are counted without padding, the first step is not.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator

# Nothing is looked up on the network: the model is a folder.
os.environ["HF_HUB_OFFLINE"] = "1"

import psutil
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

DEFAULTS = {"r": 8, "loraAlpha": 16, "targetModules": "all-linear", "attention": "sdpa", "threads": None}
NEEDED = {"synthetic": ("model", "batch", "seq", "steps"), "data": ("model", "data", "batch", "steps")}
LEARNING_RATE = 1e-4
MAX_GRAD_NORM = 1.0


def synthetic_batches(job: dict) -> Iterator[tuple[dict, int]]:
    """The same fixed ids at every step, every position supervised."""
    rows, length = job["batch"], job["seq"]
    ids = torch.tensor([[((row * length + i) * 7919) % 49000 for i in range(length)] for row in range(rows)])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    while True:
        yield batch, rows * length


def data_batches(job: dict) -> Iterator[tuple[dict, int]]:
    """Shuffled batches of a JSONL of {ids, supervised}, epoch after epoch."""
    with open(job["data"], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    generator = torch.Generator().manual_seed(0)
    while True:
        order = torch.randperm(len(rows), generator=generator).tolist()
        for start in range(0, len(order), job["batch"]):
            yield collate([rows[i] for i in order[start : start + job["batch"]]])


def collate(rows: list[dict]) -> tuple[dict, int]:
    """A padded batch, and its tokens as the other side counts them: a row's last token is only a target."""
    size = max(len(row["ids"]) for row in rows)
    ids = torch.zeros(len(rows), size, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        tokens = torch.tensor(row["ids"])
        ids[i, : len(tokens)] = tokens
        mask[i, : len(tokens)] = 1
        labels[i, : len(tokens)] = torch.where(torch.tensor(row["supervised"]).bool(), tokens, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}, int(mask.sum()) - len(rows)


def peak_rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> int:
    if len(sys.argv) != 2:
        print("train_peft: expected one argument, the job as JSON", file=sys.stderr)
        return 2
    job = DEFAULTS | json.loads(sys.argv[1])
    if job.get("mode") not in NEEDED:
        print(f'train_peft: "mode" is {job.get("mode")!r}, expected one of {", ".join(NEEDED)}', file=sys.stderr)
        return 2
    for key in NEEDED[job["mode"]]:
        if key not in job:
            print(f'train_peft: the job lacks "{key}"', file=sys.stderr)
            return 2
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    torch.manual_seed(0)

    model = AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=torch.float32, attn_implementation=job["attention"]
    )
    lora = LoraConfig(
        r=job["r"], lora_alpha=job["loraAlpha"], target_modules=job["targetModules"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, lora).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=True)
    batches = synthetic_batches(job) if job["mode"] == "synthetic" else data_batches(job)

    times: list[tuple[float, int]] = []
    first_step_seconds = 0.0
    for step in range(job["steps"] + 1):
        started = time.perf_counter()
        batch, tokens = next(batches)
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
        last_loss = loss.item()
        if step == 0:
            first_step_seconds = time.time() - psutil.Process().create_time()
        else:
            times.append((time.perf_counter() - started, tokens))

    # Steps of a data set differ in length: all of its tokens over all of its time.
    total = sum(tokens for _, tokens in times) / sum(seconds for seconds, _ in times)
    median = statistics.median(tokens / seconds for seconds, tokens in times)
    result = {
        "engine": "peft",
        **job,
        "threads": torch.get_num_threads(),
        "stepSeconds": statistics.median(seconds for seconds, _ in times),
        "tokensPerSecond": total if job["mode"] == "data" else median,
        "firstStepSeconds": first_step_seconds,
        "peakRssBytes": peak_rss_bytes(),
        "loss": last_loss,
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
