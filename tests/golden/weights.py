# SPDX-License-Identifier: Apache-2.0
# Makes weights/: small weight files of every kind. Needs torch, h5py; run by hand.
# Tensor k holds ((i * 7 + k * 13) % 29 - 14) / 4 at element i, exact in every float type.
import argparse, collections, os, pathlib, pickle, struct, warnings, zipfile
import h5py, numpy as np, torch

out = pathlib.Path(__file__).parent / "weights"
out.mkdir(exist_ok=True)
shapes = {"conv1.weight": (4, 3, 3, 3), "bn1.weight": (4,), "layer1.0.conv1.weight": (2, 4, 1, 1),
          "fc.weight": (5, 2), "fc.bias": (5,), "scale": ()}


def array(k, shape, step=0.25):
    n = int(np.prod(shape))
    return (((np.arange(n) * 7 + k * 13) % 29 - 14) * step).reshape(shape)


def tensors(dtype=torch.float32, step=0.25):
    return collections.OrderedDict((n, torch.tensor(array(k, s, step), dtype=dtype))
                                   for k, (n, s) in enumerate(shapes.items()))


class Evil:
    def __reduce__(self):
        return os.system, ("echo this must never run",)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(2, 2)


def save_torch():
    torch.save(tensors(), out / "zip.pth")
    for name, dtype in [("half", torch.float16), ("bfloat16", torch.bfloat16), ("double", torch.float64)]:
        torch.save(tensors(dtype), out / f"{name}.pth")
    for name, dtype in [("long", torch.int64), ("char", torch.int8)]:
        torch.save(tensors(dtype, 1), out / f"{name}.pth")
    wrapped = collections.OrderedDict(("module." + n, t) for n, t in tensors().items())
    wrapped["module.bn1.num_batches_tracked"] = torch.tensor(7)
    torch.save({"best_prec1": 91.5, "state_dict": wrapped, "args": argparse.Namespace(lr=0.1, depth=20)},
               out / "legacy.th", _use_new_zipfile_serialization=False)
    torch.save({"net": wrapped, "acc": np.float64(0.5), "where": torch.device("cpu"), "size": torch.Size([1, 2]),
                "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}},
               out / "checkpoint.pth")
    torch.save(tensors(), out / "protocol4.pth", pickle_protocol=4)
    torch.save(tensors(), out / "protocol4.th", pickle_protocol=4, _use_new_zipfile_serialization=False)
    torch.save({n: torch.nn.Parameter(t) for n, t in tensors().items()}, out / "parameter.pth")
    base = torch.tensor(array(0, (4, 6, 5)), dtype=torch.float32)
    torch.save({"transposed": base.permute(2, 0, 1), "sliced": base[1:3, ::2, 1], "expanded": base[0, 0, :1].expand(3, 2),
                "tail": base[3], "empty": base[:0]}, out / "strided.pth")
    torch.save({"w": torch.zeros(1), "x": Evil()}, out / "evil.pth")
    torch.save({"w": torch.zeros(1), "x": Evil()}, out / "evil.th", _use_new_zipfile_serialization=False)
    torch.save(Model(), out / "model.pth")
    lie_about_storage()


# A tensor of 400 elements over a storage of 4: the class of CVE-2026-24747.
def lie_about_storage():
    torch.save({"w": torch.zeros(4)}, out / "honest.pth")
    with zipfile.ZipFile(out / "honest.pth") as src, zipfile.ZipFile(out / "lie.pth", "w") as dst:
        for e in src.infolist():
            data = src.read(e)
            if e.filename.endswith("data.pkl"): # the size (4,) becomes (200,)
                data = data.replace(b"K\x04\x85", b"K\xc8\x85")
            dst.writestr(e.filename.replace("honest/", "lie/"), data)
    (out / "honest.pth").unlink()


def h5(name, **kw):
    return h5py.File(out / name, "w", **kw)


def save_hdf5():
    floats = {n: array(k, s).astype(np.float32) for k, (n, s) in enumerate(shapes.items())}
    with h5("flat.h5") as f:
        for n, a in floats.items():
            f[n] = a
        f.attrs["thaw_format"] = 1
        f.attrs["backbone"] = "resnet18"
        f.attrs["fixed"] = np.bytes_("bytes")
        f.attrs["classes"] = ["cat", "dög", ""]
        f.attrs["fixed_list"] = np.array([b"ab", b"c"])
        f.attrs["mean"] = [0.485, 0.456, 0.406]
        f.attrs["crop"] = np.float32(0.875)
        f.attrs["input_size"] = np.array([224, 224], dtype=np.int16)
    with h5("nested.h5", libver="latest") as f:
        for n, a in floats.items():
            f[n.replace(".", "/")] = a
        f["layer1/note"] = "no tensor"
    with h5("gzip.h5", userblock_size=512) as f:
        for n, a in floats.items():
            f.create_dataset(n, data=a, **({"compression": "gzip", "shuffle": True, "fletcher32": True} if a.ndim else {}))
    kinds = [">f4", "<f2", ">f8", "<f8", "<f4", "<f2"]
    with h5("types.h5") as f:
        for (n, a), t in zip(floats.items(), kinds):
            f[n] = a.astype(t)
        f["int64"] = np.array([-3, 1 << 30], dtype=">i8")
        f["uint8"] = np.array([0, 255], dtype=np.uint8)
    with h5("soft.h5") as f:
        f["a"] = floats["fc.bias"]
        f["b"] = h5py.SoftLink("/a")
    with h5("external_link.h5") as f:
        f["b"] = h5py.ExternalLink("flat.h5", "/fc.bias")
    with h5("external_storage.h5") as f:
        f.create_dataset("a", (4,), "f4", external=[("/etc/passwd", 0, 16)])
    with h5("virtual.h5") as f:
        layout = h5py.VirtualLayout(shape=(5,), dtype="f4")
        layout[:] = h5py.VirtualSource("flat.h5", "fc.bias", shape=(5,))
        f.create_virtual_dataset("a", layout)
    with h5("cycle.h5") as f:
        f["a"] = floats["fc.bias"]
        f["g/up"] = f["/"]
    with h5("lzf.h5") as f:
        f.create_dataset("a", data=np.zeros(64, "f4"), compression="lzf")
    with h5("bomb.h5") as f: # 4 GiB of zeros, never written
        f.create_dataset("a", (1 << 30,), "f4", chunks=(1 << 20,), compression="gzip")


def save_safetensors():
    from safetensors.torch import save_file
    about = {"format": "pt", "origin": "a \u2603"}
    for name, dtype, step in [("flat", torch.float32, 0.25), ("half", torch.float16, 0.25), ("bfloat16", torch.bfloat16, 0.25),
                              ("double", torch.float64, 0.25), ("long", torch.int64, 1), ("char", torch.int8, 1)]:
        save_file(dict(tensors(dtype, step)), out / f"{name}.safetensors", about)


torch.manual_seed(0)
warnings.simplefilter("ignore")
save_torch()
save_hdf5()
save_safetensors()
print(sum(f.stat().st_size for f in out.iterdir()), "bytes")
