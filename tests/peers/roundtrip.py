# SPDX-License-Identifier: Apache-2.0
"""Weights there and back: .pth -> .h5 -> .safetensors -> load_state_dict(strict=True), with the
same logits bit for bit and Thaw's own within 1e-4; and the files of others (Hugging Face,
torchvision, Keras), whose networks' outputs Thaw has to give. Needs transformers and keras
beside requirements.txt for the latter; what is not installed is left out, in words.

    python tests/peers/roundtrip.py build/thaw [NAME ...]
"""
import argparse, json, os, pathlib, subprocess, sys, tempfile

import numpy as np
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file

import files as shared

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TOLERANCE = 1e-4
IMAGES = 3


def shaken(model):
    """Random values in everything that a fresh network has at 0 or 1."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.add_(0.02 * torch.randn_like(p))
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                b.add_(0.1 * torch.randn_like(b))
            if name.endswith("running_var"):
                b.mul_(1 + 0.3 * torch.rand_like(b))
    return model.eval()


class Work:
    def __init__(self, thaw, folder):
        self.thaw, self.folder = thaw, pathlib.Path(folder)

    def run(self, *args):
        done = subprocess.run([self.thaw, *map(str, args)], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"thaw {' '.join(map(str, args))}: {done.stderr}")
        return done.stdout, done.stderr

    def convert(self, source, name):
        out = self.folder / name
        out.unlink(missing_ok=True)
        print("   ", " ".join("".join(self.run("convert", source, out)).split())[:200])
        return out

    def images(self, size):
        files = []
        pixels = np.random.default_rng(1).integers(0, 256, (IMAGES, size, size, 3)).astype("uint8")
        for i, p in enumerate(pixels):
            files.append(self.folder / f"{size}-{i}.png")
            Image.fromarray(p).save(files[-1])
        return pixels, files

    def logits(self, model, files, *options):
        out, _ = self.run("predict", model, *files, "--json", "--quiet", "--crop", 1, *options)
        return np.array([json.loads(line)["logits"] for line in out.splitlines()])


def tensors(pixels, mean=MEAN, std=STD):
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(np.array(v), dtype=torch.float32).view(3, 1, 1) for v in (mean, std))
    return (x - mean) / std


def verdict(name, thaw, torch_logits, more=""):
    scale = max(1.0, float(np.abs(torch_logits).max()))
    error = float(np.abs(thaw - torch_logits).max()) / scale
    print(f"{'ok  ' if error < TOLERANCE else 'FAIL'} {name}: logits within {error:.1e}{more}")
    return error < TOLERANCE


def there_and_back(work, name, make, size):
    model = shaken(make())
    torch.save(model.state_dict(), work.folder / f"{name}.pth")
    h5 = work.convert(work.folder / f"{name}.pth", f"{name}.h5")
    last = work.convert(h5, f"{name}.safetensors")
    again = make().eval()
    again.load_state_dict(load_file(last), strict=True)
    pixels, files = work.images(size)
    x = tensors(pixels)
    with torch.no_grad():
        before, after = model(x).numpy(), again(x).numpy()
    same = np.array_equal(before, after)
    if not same:
        print(f"FAIL {name}: PyTorch's logits differ after the way")
    rgb = ["--image-size", size, "--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD))]
    return verdict(name, work.logits(last, files, *rgb), before, ", PyTorch's bit-equal" if same else "") and same


def of_others(work, name, model, size, read):
    """A network of transformers or torchvision whose file goes straight into Thaw."""
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(work.folder / name)
        path = work.folder / name / "model.safetensors"
    else:
        path = work.folder / f"{name}.pth"
        torch.save(model.state_dict(), path)
    out = work.convert(path, f"{name}.h5")
    pixels, files = work.images(size)
    given = shared.read_attributes(out)
    with torch.no_grad():
        want = read(model(tensors(pixels, given["mean"], given["std"]))).numpy()
    return verdict(name, work.logits(out, files, "--image-size", size), want)


def transformers_cases():
    try:
        import transformers as t
    except ImportError:
        print("transformers is not installed: Hugging Face's names are left out")
        return
    t.logging.set_verbosity_error()
    # Hugging Face's eps is 1e-12 where the networks that it converted, and ours, have 1e-6. It is
    # in no weight file: with random weights it moves the logits by 1e-4.
    tiny = dict(layer_norm_eps=1e-6, hidden_size=192, num_attention_heads=3, num_hidden_layers=12,
                intermediate_size=768, num_labels=7)
    yield "hf-vit", t.ViTForImageClassification(t.ViTConfig(**tiny)), 224, lambda y: y.logits
    yield ("hf-deit", t.DeiTForImageClassificationWithTeacher(t.DeiTConfig(**tiny)), 224, lambda y: y.logits)
    yield ("hf-resnet50", t.ResNetForImageClassification(t.ResNetConfig(num_labels=7)), 64, lambda y: y.logits)


def keras_case(work):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
    except ImportError:
        print("keras is not installed: its files are left out")
        return True
    model = keras.applications.ResNet50(weights=None, classes=7, input_shape=(64, 64, 3), classifier_activation=None)
    rng = np.random.default_rng(3)
    for layer in model.layers:
        values = [w + 0.1 * rng.random(w.shape) * (w.ndim == 1) for w in layer.get_weights()]
        if values:
            layer.set_weights([v.astype("float32") for v in values])
    pixels, files = work.images(64)
    want = model.predict(keras.applications.resnet.preprocess_input(pixels.astype("float32")), verbose=0)
    right = True
    for name in ("keras-resnet50.h5", "keras-resnet50.weights.h5"):
        path = work.folder / name
        model.save_weights(path) if name.endswith("weights.h5") else model.save(path)
        right &= verdict(name, work.logits(path, files, "--image-size", 64), want)
    return right


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("thaw")
    p.add_argument("names", nargs="*")
    args = p.parse_args()
    torch.manual_seed(0)
    right = True
    with tempfile.TemporaryDirectory() as folder:
        work = Work(os.path.abspath(args.thaw), folder)
        wanted = lambda name: not args.names or name in args.names
        for name, make, size in [
                ("resnet18", lambda: torchvision.models.resnet18(num_classes=7), 96),
                ("resnet50", lambda: torchvision.models.resnet50(num_classes=7), 96),
                ("vit_tiny", lambda: timm.create_model("vit_tiny_patch16_224", num_classes=7), 224)]:
            if wanted(name):
                right &= there_and_back(work, name, make, size)
        if wanted("torchvision-vit"):
            tv = torchvision.models.VisionTransformer(224, 16, 12, 3, 192, 768, num_classes=7)
            right &= of_others(work, "torchvision-vit", shaken(tv), 224, lambda y: y)
        for name, model, size, read in transformers_cases():
            if wanted(name):
                right &= of_others(work, name, shaken(model), size, read)
        if wanted("keras"):
            right &= keras_case(work)
    sys.exit(not right)


if __name__ == "__main__":
    main()
