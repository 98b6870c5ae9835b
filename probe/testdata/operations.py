"""Writes operations.json: operations as PyTorch computes them.

    python operations.py > operations.json

A case is an operation, its inputs and its result, each with its shape.
"""

import json

import torch
import torch.nn.functional as F

torch.manual_seed(5)


def array(x):
    return {"shape": list(x.shape), "x": [round(float(v), 8) for v in x.flatten()]}


def real(*shape):
    return torch.round(torch.randn(*shape) * 1e4) / 1e4


CASES = []


def case(name, result, *inputs):
    CASES.append({"name": name, "in": [array(x) for x in inputs], "out": array(result)})


x, w = real(2, 6, 11), real(4, 3, 3)
case("conv1d", F.conv1d(x, w, stride=2, padding=3, dilation=2, groups=2), x, w)
x, w = real(1, 4, 7, 6), real(6, 2, 3, 2)
case("conv2d", F.conv2d(x, w, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2), x, w)
x, w = real(1, 2, 5, 4, 6), real(3, 2, 2, 2, 3)
case("conv3d", F.conv3d(x, w, stride=(2, 2, 1), padding=(1, 0, 1)), x, w)
x, w = real(1, 5, 9), real(5, 1, 4)
case("causal", F.conv1d(x, w, padding=3, groups=5)[..., :9], x, w)
x = 4 * real(3, 7)
for name, f in {
    "gelu": F.gelu,
    "gelu_tanh": lambda v: F.gelu(v, approximate="tanh"),
    "softplus": F.softplus,
    "elu": lambda v: F.elu(v, alpha=1.3),
    "erf": torch.erf,
    "round": lambda v: torch.round(v * 2),
    "layer_norm": lambda v: F.layer_norm(v, (7,), eps=1e-3),
    "cumsum": lambda v: v.cumsum(-1),
    "topk": lambda v: v.topk(3).values,
    "topk_indices": lambda v: v.topk(3).indices,
    "argmax": lambda v: v.argmax(-1, keepdim=True),
    "amax": lambda v: v.amax(-1, keepdim=True),
    "pow": lambda v: v.abs() ** 1.5,
    "flip": lambda v: v.flip(1),
    "pad": lambda v: F.pad(v, (2, 1)),
}.items():
    case(name, f(x), x)
case("round_even", torch.round(torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5])), torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5]))
x, i = real(4, 5, 3), torch.randint(0, 5, (3, 6, 2))
case("gather", x.gather(1, i), x, i)
case("index_select", x[:, i[0, :, 0]], x, i[0, :, 0])
s = real(3, 6, 2)
case("scatter_add", x.scatter_add(1, i, s), x, i, s)
unique = torch.stack([torch.randperm(5)[:4] for _ in range(3)])
y, s = real(3, 5), real(3, 4)
case("scatter", y.scatter(1, unique, s), y, unique, s)
case("one_hot", F.one_hot(unique, 5), unique)
a, b, c = real(3, 1, 4), real(2, 4), torch.randint(0, 2, (3, 2, 1))
case("where", torch.where(c.bool(), a, b), c, a, b)
case("maximum", torch.maximum(a, b), a, b)
case("eq", torch.round(a).eq(torch.round(b)).float(), torch.round(a), torch.round(b))

print(json.dumps({"torch": torch.__version__.split("+")[0], "cases": CASES}, indent=None, separators=(",", ":")))
