# SPDX-License-Identifier: Apache-2.0
"""The shortest PyTorch script that trains a new head on a frozen ResNet-50: story.py's other side.
With --cached it computes the features once, as few people write it, and only where the pixels are
the same in every epoch."""
import argparse
import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models
from torchvision import transforms as T
from torchvision.datasets import ImageFolder

parser = argparse.ArgumentParser()
for name in ("data", "weights", "out"):
    parser.add_argument(name)
parser.add_argument("--crops", choices=("random", "centre"), default="random")
parser.add_argument("--cached", action="store_true")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--workers", type=int, default=2)
args = parser.parse_args()
assert not (args.cached and args.crops == "random")

normalise = [T.ToTensor(), T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
centre = T.Compose([T.Resize(256), T.CenterCrop(224), *normalise])
random = T.Compose([T.RandomResizedCrop(224), T.RandomHorizontalFlip(), *normalise])
train_set = ImageFolder(args.data + "/train", random if args.crops == "random" else centre)
val_set = ImageFolder(args.data + "/val", centre)

model = models.resnet50()
state = torch.load(args.weights, weights_only=True)
model.load_state_dict({k: v for k, v in state.items() if "fc." not in k}, strict=False)
model.requires_grad_(False)
model.fc = nn.Linear(model.fc.in_features, len(train_set.classes))
model = model.to(memory_format=torch.channels_last).eval()  # the head has no mode
trained: nn.Module = model

if args.cached:
    head, model.fc = model.fc, nn.Identity()

    def features(data):
        with torch.no_grad():
            pairs = [(model(x.to(memory_format=torch.channels_last)), y)
                     for x, y in DataLoader(data, 32, num_workers=args.workers)]
        return TensorDataset(*(torch.cat(column) for column in zip(*pairs)))
    train_set, val_set, trained = features(train_set), features(val_set), head


def predict(x: torch.Tensor) -> torch.Tensor:
    return trained(x if args.cached else x.to(memory_format=torch.channels_last))


workers = 0 if args.cached else args.workers
train = DataLoader(train_set, 32, shuffle=True, num_workers=workers)
val = DataLoader(val_set, 32, num_workers=workers)
head_params = [p for p in trained.parameters() if p.requires_grad]
optimizer = torch.optim.SGD(head_params, lr=0.01, momentum=0.9, weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(train))
for epoch in range(args.epochs):
    for x, y in train:
        optimizer.zero_grad()
        nn.functional.cross_entropy(predict(x), y).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        right = sum((predict(x).argmax(1) == y).sum().item() for x, y in val)
    print(json.dumps({"epoch": epoch, "val_top1": right / len(val_set)}), flush=True)
if args.cached:
    model.fc = trained
torch.save(model.state_dict(), args.out)
