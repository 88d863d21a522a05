"""The rules as optimizer classes; ``pytest_optcheck.oracles`` gives them to whoever asks for them.

Each takes parameters and the fields of its rule as keywords.
"""

from __future__ import annotations

from pytest_optcheck.oracles import (
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    asgd,
    lamb,
    lars,
    lion,
    muon,
    nadam,
    radam,
    rmsprop,
    rprop,
    sgd,
    signsgd,
)
from pytest_optcheck.oracles.adapter import NumpyOptimizer


class GradientDescent(NumpyOptimizer, rule=sgd.GradientDescent):
    """`sgd.GradientDescent`."""


class SGD(NumpyOptimizer, rule=sgd.SGD):
    """`sgd.SGD`."""


class Adagrad(NumpyOptimizer, rule=adagrad.Adagrad):
    """`adagrad.Adagrad`."""


class RMSprop(NumpyOptimizer, rule=rmsprop.RMSprop):
    """`rmsprop.RMSprop`."""


class Adadelta(NumpyOptimizer, rule=adadelta.Adadelta):
    """`adadelta.Adadelta`."""


class Adam(NumpyOptimizer, rule=adam.Adam):
    """`adam.Adam`."""


class AMSGrad(NumpyOptimizer, rule=adam.AMSGrad):
    """`adam.AMSGrad`."""


class AdamW(NumpyOptimizer, rule=adam.AdamW):
    """`adam.AdamW`."""


class Adamax(NumpyOptimizer, rule=adamax.Adamax):
    """`adamax.Adamax`."""


class NAdam(NumpyOptimizer, rule=nadam.NAdam):
    """`nadam.NAdam`."""


class RAdam(NumpyOptimizer, rule=radam.RAdam):
    """`radam.RAdam`."""


class Rprop(NumpyOptimizer, rule=rprop.Rprop):
    """`rprop.Rprop`."""


class ASGD(NumpyOptimizer, rule=asgd.ASGD):
    """`asgd.ASGD`."""


class Adafactor(NumpyOptimizer, rule=adafactor.Adafactor):
    """`adafactor.Adafactor`."""


class Lion(NumpyOptimizer, rule=lion.Lion):
    """`lion.Lion`."""


class LAMB(NumpyOptimizer, rule=lamb.LAMB):
    """`lamb.LAMB`."""


class LARS(NumpyOptimizer, rule=lars.LARS):
    """`lars.LARS`."""


class Muon(NumpyOptimizer, rule=muon.Muon):
    """`muon.Muon`."""


class SignSGD(NumpyOptimizer, rule=signsgd.SignSGD):
    """`signsgd.SignSGD`."""
