# SPDX-License-Identifier: Apache-2.0
"""The machine under both engines: its name and limits, and the environment that restricts a
child to so many threads and to an instruction set."""
import os
import platform
import subprocess
import tempfile

ISAS = ("auto", "avx2")
VECTOR = {"avx512": (64, ["-mavx512f", "-mfma"]), "avx2": (32, ["-mavx2", "-mfma"])}
HERE = os.path.dirname(os.path.abspath(__file__))
# One switch for PyTorch: its own kernels, the oneDNN in it, and MKL.
TORCH_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
              "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def environment(threads: int, isa: str) -> dict[str, str]:
    """Thaw reads nothing of the restriction: it is told by --isa."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads),
            **(TORCH_AVX2 if isa == "avx2" else {})}


def cpu() -> dict[str, str]:
    with open("/proc/cpuinfo") as f:
        lines = f.read().splitlines()
    return {key: next((x.split(":", 1)[1].strip() for x in lines if x.startswith(key)), "")
            for key in ("model name", "flags")}


def level(isa: str) -> str:
    """The instruction set in use: avx512 or avx2."""
    return "avx512" if isa == "auto" and "avx512f" in cpu()["flags"].split() else "avx2"


def limits(threads: int, isa: str) -> dict[str, float]:
    """Peak of multiply-adds and of memory, by limits.c, as fast as it ever ran here."""
    width, flags = VECTOR[level(isa)]
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "limits")
        subprocess.run(["cc", "-O3", *flags, "-ffp-contract=fast", "-fopenmp", f"-DWIDTH={width}",
                        os.path.join(HERE, "limits.c"), "-o", program], check=True)
        done = subprocess.run([program], env=environment(threads, isa), capture_output=True,
                              text=True, check=True)
    flops, bandwidth = map(float, done.stdout.split())
    return {"flops_per_s": flops, "bytes_per_s": bandwidth}


def describe(thaw: str) -> str:
    import torch
    import torchvision
    done = subprocess.run([thaw, "--version"], capture_output=True, text=True, check=True)
    return (f"{cpu()['model name']}, {level('auto')}, {os.cpu_count()} cores; "
            f"{done.stdout.strip()}; PyTorch {torch.__version__}, torchvision "
            f"{torchvision.__version__}, Python {platform.python_version()}")
