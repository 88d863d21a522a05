"""Survivors that a person read: why no run on a CPU could tell them from the original.

Each entry is matched by file, function, kind of alteration, the statement before and after it, and the conditions
around it. An entry never saves a mutant that a case kills: such a one counts as killed, and the entry is reported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from benchmarks.mutating.judging import EQUIVALENT, UNREACHABLE
from benchmarks.mutating.operators import CALL, CONDITION, CONNECTIVE, STATEMENT

if TYPE_CHECKING:
    from benchmarks.mutating.judging import Mutant


@dataclass(frozen=True, slots=True)
class Review:
    """One reason, and the mutants that it holds for.

    Attributes:
        outcome: `EQUIVALENT` or `UNREACHABLE`.
        reason: in one line.
        file: pattern of the file's name, without ``.py``.
        function: pattern of the dotted name.
        kind: of alteration; empty for any.
        before: regular expression, searched for in the statement; empty for any.
        after: ditto in the altered one.
        guard: ditto in the conditions under which it is reached, of which one must match.
    """

    outcome: str
    reason: str
    file: str = "*"
    function: str = "*"
    kind: str = ""
    before: str = ""
    after: str = ""
    guard: str = ""

    def holds(self, mutant: Mutant) -> bool:
        """Whether it is about `mutant`."""
        site = mutant.alteration.site
        return (
            fnmatch(mutant.file.name, self.file)
            and fnmatch(site.function, self.function)
            and self.kind in ("", mutant.alteration.kind)
            and re.search(self.before, mutant.before) is not None
            and re.search(self.after, mutant.after) is not None
            and (not self.guard or any(re.search(self.guard, guard) for guard in site.guards))
        )


REVIEWS: tuple[Review, ...] = (
    # branches that nothing on a CPU takes
    Review(UNREACHABLE, "runs only while TorchScript compiles", guard=r"^torch\.jit\.is_scripting\(\)"),
    Review(UNREACHABLE, "runs only while torch.compile traces", guard=r"^torch\.compiler\.is_compiling\(\)"),
    Review(UNREACHABLE, "is asked only while torch.compile traces", function="*.maybe_fallback", before="is_compiling"),
    Review(UNREACHABLE, "capturable is refused on a CPU before this", guard=r"^capturable$"),
    Review(UNREACHABLE, "needs counters on another device", guard=r"^not \(.*\.is_cpu\)$"),
    Review(UNREACHABLE, "needs a setting that is a tensor on another device", guard=r"^(lr|beta1)_dict is not None"),
    Review(UNREACHABLE, "needs an accelerator", guard=r"^accelerator and "),
    Review(
        UNREACHABLE,
        "foreach refuses settings that are tensors before this, unless capturable",
        function="_multi_tensor_*",
        before=r"numel\(\) != 1|^raise ValueError\('Tensor|scaled_device_grads = torch|^value = 1\.0",
        guard=r"^isinstance\((lr|beta1|beta2), (torch\.)?Tensor\)$",
    ),
    Review(UNREACHABLE, "no class of torch.optim has a required setting", "optimizer", before="default is required"),
    # what makes no difference on a CPU
    Review(
        EQUIVALENT,
        "looks after graphs of an accelerator; where there is none it returns at once",
        before=r"^self\._accelerator_graph_capture_health_check\(\)",
    ),
    Review(
        EQUIVALENT,
        "takes cuda from the devices among which cpu is looked for",
        "optimizer",
        "_device_dtype_check_for_fused",
        before="cuda_unsupported",
    ),
    *(
        Review(
            EQUIVALENT,
            "makes the same counter either way on a CPU",
            function="*.__setstate__",
            kind=kind,
            before=r"torch\.tensor\(step_val.* if group\[",
        )
        for kind in (CONDITION, CONNECTIVE)
    ),
    Review(
        EQUIVALENT,
        "all counters of a list are on one device",
        before=r"_steps\[0\]\.is_cpu",
        after=r"_steps\[-1\]\.is_cpu",
    ),
    # what makes no difference at all
    Review(EQUIVALENT, "tells torch's makers that a class is used", before=r"^torch\._C\._log_api_usage_once\("),
    Review(EQUIVALENT, "both lists always have one length", before="strict=True", after="strict=False"),
    Review(
        EQUIVALENT,
        "every parameter is in one group, and that one decides",
        "optimizer",
        "*._process_value_according_to_param_policy",
        before=r"^(fused = False|capturable = False|break)$",
    ),
    Review(EQUIVALENT, "no gradient has a history there", "sgd", "_multi_tensor_sgd", CALL, before=r"\.detach\(\)"),
    *(
        Review(
            EQUIVALENT,
            "the base class sets it again before it is used",
            "lr_scheduler",
            f"{name}.__init__",
            STATEMENT,
            before=r"^self\.optimizer = optimizer$",
        )
        for name in ("LambdaLR", "MultiplicativeLR")
    ),
    Review(
        EQUIVALENT,
        "only makes an int a float, for true divisions",
        "lr_scheduler",
        "CyclicLR.__init__",
        before=r"^step_size_(up|down) = float\(",
        kind=STATEMENT,
    ),
    Review(EQUIVALENT, "decides on a warning alone", before=r"_get_lr_called_within_step|\b_opt_called\b"),
    Review(
        EQUIVALENT, "nobody names what it enters", "lr_scheduler", "_enable_get_lr_call.__enter__", before="^return"
    ),
)
"""Every entry."""


def review(mutant: Mutant) -> Review | None:
    """The first entry that is about `mutant`."""
    return next((entry for entry in REVIEWS if entry.holds(mutant)), None)
