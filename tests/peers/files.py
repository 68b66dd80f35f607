# SPDX-License-Identifier: Apache-2.0
"""Reading and writing what both sides share: weights files, the model file, metrics.jsonl."""
import json
import os

import h5py
import numpy as np
import torch

FORMATS = ("h5", "h5-nested", "pth", "pth-prefixed", "pth-legacy", "safetensors")
Tensors = dict[str, np.ndarray]


def save_weights(folder: str, kind: str, weights: Tensors) -> str:
    """Write fp32 weights in one of FORMATS; returns the path."""
    path = os.path.join(folder, "weights." + kind.split("-")[0])
    if kind.startswith("h5"):
        with h5py.File(path, "w") as f:
            for name, v in weights.items():
                f[name if kind == "h5" else name.replace(".", "/")] = v
        return path
    state = {k: torch.from_numpy(v) for k, v in weights.items()}
    if kind == "safetensors":
        from safetensors.torch import save_file
        save_file(state, path)
        return path
    if kind == "pth-prefixed":
        state = {"state_dict": {"module." + k: v for k, v in state.items()}, "best_prec1": 50.0}
    torch.save(state, path, _use_new_zipfile_serialization=kind != "pth-legacy")
    return path


def read_h5(path: str) -> Tensors:
    """Every data set, its name with dots whether the file is flat or nested."""
    found: Tensors = {}

    def visit(name: str, node) -> None:
        if isinstance(node, h5py.Dataset):
            found[name.replace("/", ".")] = node[()]
    with h5py.File(path, "r") as f:
        f.visititems(visit)
    return {k: v for k, v in found.items() if "num_batches" not in k}


def read_weights(path: str) -> Tensors:
    if path.endswith(".h5"):
        return read_h5(path)
    if path.endswith(".safetensors"):
        from safetensors.numpy import load_file
        return load_file(path)
    state = torch.load(path, weights_only=True)
    state = state.get("state_dict", state)
    return {k.removeprefix("module."): v.numpy() for k, v in state.items()
            if "num_batches" not in k}


def read_model(path: str, wanted: Tensors) -> Tensors:
    """A model file's tensors under the names of `wanted`: the head may be `fc` or `linear`."""
    found = read_h5(path)
    for ours, theirs in (("linear.", "fc."), ("fc.", "linear.")):
        for leaf in ("weight", "bias"):
            if ours + leaf in wanted and theirs + leaf in found:
                found[ours + leaf] = found.pop(theirs + leaf)
    return found


def read_attributes(path: str) -> dict:
    with h5py.File(path, "r") as f:
        return dict(f.attrs)


def read_events(run: str, kind: str) -> list[dict]:
    with open(os.path.join(run, "metrics.jsonl")) as f:
        events = [json.loads(line) for line in f if line.strip()]
    return [e for e in events if e["event"] == kind]
