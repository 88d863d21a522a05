"""Word vectors: large tables of which a batch touches few rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from numpy.random import RandomState

from pytest_optcheck.workloads.base import Arrays, Tensors, Workload

if TYPE_CHECKING:
    from torch import Tensor

CORPUS_SEED = 20260102
"""Seed of the pairs: data, not initialisation."""


class Embedding(Workload):
    """Skip-grams with negative sampling (Mikolov et al. 2013, eq. 4) over 160 words, vectors of width 128.

    The words form 16 topics of 10. A batch of 8 pairs touches at most 8 rows of ``words`` and 32 of ``contexts``;
    the gradients of the others are exactly zero. ``contexts`` starts at zero, so update 1 finds no gradient in
    ``words`` at all. Every context has a ``bias``, touched as seldom.
    SparseAdam(lr=0.1) brings the loss from 2.77 to 0.601, Adam(lr=0.03) to 0.628, Adagrad(lr=0.1) to 0.845.
    """

    name = "embedding"
    steps = 80
    batch_size = 8
    words = 160
    width = 128
    topic = 10
    negatives = 3
    examples = 512

    def data(self) -> Arrays:
        """``word`` (512), ``context`` (512 × 4): one word of the same topic, then three drawn from all."""
        random = RandomState(CORPUS_SEED)
        word = random.randint(0, self.words, self.examples)
        near = word // self.topic * self.topic + random.randint(0, self.topic, self.examples)
        far = random.randint(0, self.words, (self.examples, self.negatives))
        return {"word": word.astype(np.int64), "context": np.column_stack([near, far]).astype(np.int64)}

    def init(self, random: RandomState) -> Arrays:
        """``words`` uniform in ±0.5 / sqrt(width), ``contexts`` and ``bias`` zero, as word2vec does."""
        bound = 0.5 / np.sqrt(self.width)
        shape = (self.words, self.width)
        return {
            "words": random.uniform(-bound, bound, shape),
            "contexts": np.zeros(shape),
            "bias": np.zeros(self.words),
        }

    def loss(self, params: Tensors, batch: Tensors) -> Tensor:
        """-log σ(u·v) of the true context minus Σ log σ(-u·v) of the drawn ones, mean over pairs."""
        word = F.embedding(batch["word"], params["words"])
        contexts = F.embedding(batch["context"], params["contexts"])
        scores = (contexts @ word.unsqueeze(2)).squeeze(2) + params["bias"][batch["context"]]
        return F.softplus(-scores[:, 0]).mean() + F.softplus(scores[:, 1:]).sum(dim=1).mean()
