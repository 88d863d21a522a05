"""What nothing on a CPU reaches through the classes of torch.optim."""

from __future__ import annotations

from benchmarks.mutating.judging import UNREACHABLE
from benchmarks.mutating.operators import ARGUMENTS, CONDITION, CONSTANT, STATEMENT
from benchmarks.mutating.reviews.base import Review

REACHED_BY_NOTHING: tuple[Review, ...] = (
    Review(UNREACHABLE, "AdamW.step calls adam", "adamw", "adamw"),
    Review(
        UNREACHABLE,
        "runs only while torch.compile traces",
        guard=r"^torch\.compiler\.is_compiling\(\)| and torch\.compiler\.is_compiling\(\)$",
    ),
    Review(
        UNREACHABLE,
        "is asked only while torch.compile traces",
        "optimizer",
        "*.maybe_fallback",
        before=r"is_compiling|^….*(state_steps|device\.type)",  # the beginning is cut off
    ),
    Review(
        UNREACHABLE,
        "capturable is refused on a CPU before this",
        guard=r"^capturable( and isinstance\(lr, torch\.Tensor\))?$",
    ),
    Review(UNREACHABLE, "needs counters on another device", guard=r"^not \(.*\.is_cpu\)$"),
    Review(
        UNREACHABLE,
        "needs a setting that is a tensor on another device",
        function=("_multi_tensor_*", "_fused_*"),
        guard=r"^(lr|beta1)_dict is not None",
    ),
    Review(UNREACHABLE, "needs an accelerator", guard=r"^accelerator and "),
    Review(
        UNREACHABLE,
        "foreach refuses settings that are tensors before this, unless capturable",
        function="_multi_tensor_*",
        before=r"numel\(\) != 1|^raise ValueError\('Tensor|scaled_device_grads = torch|^value = 1\.0",
        guard=r"^isinstance\((lr|beta1|beta2), (torch\.)?Tensor\)$",
    ),
    Review(UNREACHABLE, "the class never passes foreach", "_muon", "muon", guard="^foreach is not None and foreach$"),
    Review(
        UNREACHABLE,
        "the class refuses complex parameters before this",
        "_muon",
        "_single_tensor_muon",
        guard="^has_complex$",
    ),
    Review(
        UNREACHABLE,
        "runs only while TorchScript compiles",
        guard=r"^((foreach|fused) and )?torch\.jit\.is_scripting\(\)$|^not \(not torch\.jit\.is_scripting\(\)\)$",
    ),
    Review(
        UNREACHABLE,
        "no class of torch.optim has a required setting",
        "optimizer",
        "Optimizer.add_param_group",
        STATEMENT,
        before="^raise ValueError",
        guard=r"^default is required and name not in param_group$",
    ),
    Review(
        UNREACHABLE,
        "makes a counter for capturable, whose first update on a CPU is refused",
        kind=ARGUMENTS,
        after=r"dtype=p\.device, device=_get_scalar_dtype\(\)\) if group\['capturable'\] else",
    ),
    Review(
        UNREACHABLE,
        "the classes give every argument themselves",
        function="[a-z]*",
        kind=CONSTANT,
        before=r"^\w+=False$",
    ),
    Review(
        UNREACHABLE,
        "every caller gives it",
        "optimizer",
        "_default_to_fused_or_foreach",
        CONSTANT,
        before=r"^use_fused=False$",
    ),
    *(
        Review(
            UNREACHABLE,
            "__setstate__ and the first update make every counter a tensor",
            kind=kind,
            before=before,
            after=after,
        )
        for kind, before, after in (
            (STATEMENT, r"^raise RuntimeError\('API has changed", ""),
            (CONDITION, r"isinstance\(t, torch\.Tensor\) for t in \w+", r"^if torch\.compiler\.is_compiling\(\) and "),
        )
    ),
    Review(
        UNREACHABLE,
        "every scheduler of torch.optim gives it",
        "lr_scheduler",
        "LRScheduler.__init__",
        CONSTANT,
        before=r"^last_epoch=-1$",
    ),
)
"""Every entry."""
