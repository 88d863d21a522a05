"""Models of sequences, Xavier-initialised: a recurrent net whose gradients explode, and a transformer block."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from pytest_optcheck.workloads.base import Arrays, Tensors, Workload
from pytest_optcheck.workloads.networks import xavier_uniform

if TYPE_CHECKING:
    from numpy.random import RandomState
    from torch import Tensor


class Lstm(Workload):
    """An LSTM of 12 cells that tells, after every bit of a string of 8, whether the ones so far are odd.

    SGD(lr=1.0, momentum=0.9) brings the loss from 0.694 to 4.3e-4, Adam(lr=0.03) to 8.6e-4, RMSprop(lr=0.01) to
    3.5e-3. Gradients grow along the string and burst in the middle of a training.
    """

    name = "lstm"
    steps = 80
    batch_size = 32
    bits = 8
    hidden = 12

    def data(self) -> Arrays:
        """``x`` (256 × 8) all strings, -1 or 1; ``y`` (256 × 8) the parity of the bits so far, 0 or 1."""
        strings = np.array(list(product((0.0, 1.0), repeat=self.bits)))
        return {"x": 2.0 * strings - 1.0, "y": np.cumsum(strings, axis=1).astype(np.int64) % 2}

    def init(self, random: RandomState) -> Arrays:
        """Xavier initialisation; recurrent weights threefold, so that gradients grow from bit to bit."""
        size = self.hidden
        layers = [("input", (4 * size, 1)), ("recurrent", (4 * size, size)), ("out", (2, size))]
        params = xavier_uniform(random, layers)
        del params["recurrent.bias"]  # the input's is enough
        params["recurrent.weight"] *= 3.0
        return params

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Cross-entropy, mean over strings and bits (Hochreiter & Schmidhuber 1997, with forget gates)."""
        x = batch["x"]
        h = c = x.new_zeros(len(x), self.hidden)
        states = []
        for bit in x.chunk(self.bits, dim=1):
            gates = F.linear(bit, params["input.weight"], params["input.bias"])
            i, f, g, o = (gates + F.linear(h, params["recurrent.weight"])).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        logits = F.linear(torch.stack(states, dim=1), params["out.weight"], params["out.bias"])
        return F.cross_entropy(logits.flatten(0, 1), batch["y"].flatten())


class Transformer(Workload):
    """One pre-norm block over the tokens a, b and =, which learns a + b modulo 7 from all 49 pairs.

    Embeddings of width 32 are tied to the output layer, so their gradients come along two paths. Attention has no
    biases: a key's would change nothing but rounding, which Adam would make steps of. SGD(lr=0.03, momentum=0.9)
    brings the loss from 2.36 to 8.3e-3, Adam(lr=0.003) to 0.0105, RMSprop(lr=0.003) to 0.102.
    """

    name = "transformer"
    steps = 60
    modulus = 7
    width = 32

    def data(self) -> Arrays:
        """``x`` (49 × 3) the tokens of all pairs, ``y`` (49) their sums."""
        pairs = np.array(list(product(range(self.modulus), repeat=2)))
        equals = np.full((len(pairs), 1), self.modulus)
        return {"x": np.hstack([pairs, equals]).astype(np.int64), "y": pairs.sum(axis=1) % self.modulus}

    def init(self, random: RandomState) -> Arrays:
        """Xavier initialisation, positions half of it; norms at 1 and 0."""
        width = self.width
        layers = [
            ("tokens", (self.modulus + 1, width)),
            ("positions", (3, width)),
            ("attention", (3 * width, width)),
            ("mixed", (width, width)),
            ("wide", (2 * width, width)),
            ("narrow", (width, 2 * width)),
        ]
        params = xavier_uniform(random, layers)
        for name, _ in layers[:4]:
            del params[f"{name}.bias"]
        params["positions.weight"] *= 0.5
        for name in ("norm1", "norm2"):
            params |= {f"{name}.weight": np.ones(width), f"{name}.bias": np.zeros(width)}
        return params

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """Cross-entropy of what the last token says (Vaswani et al. 2017, eq. 1, one head)."""

        def norm(name: str, x: Tensor) -> Tensor:
            return F.layer_norm(x, (self.width,), params[f"{name}.weight"], params[f"{name}.bias"])

        x = F.embedding(batch["x"], params["tokens.weight"]) + params["positions.weight"]
        y, x = norm("norm1", x), x[:, -1:]
        for_query, for_key, for_value = params["attention.weight"].chunk(3)
        query, key, value = F.linear(y[:, -1:], for_query), F.linear(y, for_key), F.linear(y, for_value)
        attention = (query @ key.transpose(1, 2) / self.width**0.5).softmax(dim=-1)
        x = x + F.linear(attention @ value, params["mixed.weight"])
        wide = F.relu(F.linear(norm("norm2", x), params["wide.weight"], params["wide.bias"]))
        x = x + F.linear(wide, params["narrow.weight"], params["narrow.bias"])
        return F.cross_entropy(F.linear(x[:, 0], params["tokens.weight"][: self.modulus]), batch["y"])
