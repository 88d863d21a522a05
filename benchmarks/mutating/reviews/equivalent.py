"""What makes no difference that a run on a CPU could show."""

from __future__ import annotations

from benchmarks.mutating.judging import EQUIVALENT
from benchmarks.mutating.operators import (
    ARGUMENTS,
    CALL,
    COMPARISON,
    CONDITION,
    CONNECTIVE,
    CONSTANT,
    OPERATOR,
    STATEMENT,
)
from benchmarks.mutating.reviews.base import Review

TOLD_BY_NOTHING: tuple[Review, ...] = (
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
    Review(
        EQUIVALENT,
        "foreach is always None there",
        "_muon",
        "muon",
        before="^if foreach is not None and foreach:$",
        after="^if foreach is (not None or|None and) foreach:$",
    ),
    Review(
        EQUIVALENT,
        "on a CPU there is no such dictionary, and the rest is not asked",
        before=r"^if (lr|beta1)_dict is not None and device not in (lr|beta1)_dict:$",
        after=r"^if (lr|beta1)_dict is not None and device in ",
    ),
    Review(EQUIVALENT, "asks about XLA, which is no CPU", kind=CONSTANT, before=r"\(supports_xla=(True|False)\)"),
    Review(
        EQUIVALENT,
        "nothing compiles, and all counters are on a CPU",
        kind=CONNECTIVE,
        before=r"^if not torch\.compiler\.is_compiling\(\) and \w+_steps\[0\]\.is_cpu:$",
    ),
    Review(
        EQUIVALENT,
        "on a CPU foreach is the default of an empty list alone, and nothing is done with that either way",
        "adam",
        "adam",
        before="^foreach = False$",
        guard=r"^foreach and isinstance\(lr, Tensor\) and \(not capturable\)$",
    ),
    *(
        Review(
            EQUIVALENT,
            "it is on the CPU and in the dictionary already",
            function="_fused_*",
            kind=kind,
            before=r"(grad_scale|found_inf)_dict\.setdefault\(device, (grad_scale|found_inf)\.to\(",
        )
        for kind in (CALL, CONSTANT)
    ),
    Review(
        EQUIVALENT,
        "what the check refuses on a CPU is refused after it too",
        "adagrad",
        before=r"^self\._need_device_dtype_check_for_fused = True$"
        r"|getattr\(self, '_need_device_dtype_check_for_fused', True\)"
        r"|^_device_dtype_check_for_fused\(p\)$",
        after=r"^pass$|\bFalse\b",
    ),
    Review(
        EQUIVALENT,
        "multiplies both, in any order",
        "adam",
        "_single_tensor_adam",
        ARGUMENTS,
        before=r"addcmul_\(param\.clone\(\), weight_decay\)",
    ),
    Review(
        EQUIVALENT,
        "multiplies both, in any order",
        "asgd",
        "_multi_tensor_asgd",
        ARGUMENTS,
        after=r"^torch\._foreach_addcmul_\(grouped_(params|axs), grouped_(etas|mus), intermediate\b",
    ),
    Review(
        EQUIVALENT,
        "nobody reads the list",
        "_adafactor",
        "_multi_tensor_adafactor",
        OPERATOR,
        before=r"^beta2_ts\.append\(",
    ),
    Review(
        EQUIVALENT,
        "the dtype of a list is that of its first tensor",
        "_adafactor",
        before=r"^eps_dtype = ",
        kind=COMPARISON,
    ),
    Review(
        EQUIVALENT,
        "indices have two dimensions and values one at least, so that it never holds",
        "_functional",
        "sparse_adam.make_sparse",
        before=r"^if grad_indices\.dim\(\) == 0 or values\.dim\(\) == 0:$",
        after=r"grad_indices\.dim\(\) == (-1|1) or values\.dim\(\) == 0|values\.dim\(\) == -1|== 0 and values",
    ),
    Review(
        EQUIVALENT,
        "both are None there",
        "adagrad",
        "_multi_tensor_adagrad",
        ARGUMENTS,
        after="grad_scale=found_inf, found_inf=grad_scale",
        guard="^device_has_sparse_grad$",
    ),
    Review(
        EQUIVALENT,
        "what it calls does not read the one, and the other decides on a sum in place or not",
        "adagrad",
        "_multi_tensor_adagrad",
        ARGUMENTS,
        after="differentiable=has_complex, has_complex=differentiable",
        guard="^device_has_sparse_grad$",
    ),
    Review(
        EQUIVALENT,
        "betas are two, of one kind",
        "adam",
        "Adam.__init__",
        before=r"^if isinstance\(betas\[[01]\], Tensor\):$",
        after=r"^if isinstance\(betas\[(-1|0|1)\], Tensor\):$",
        kind=CONSTANT,
    ),
    Review(
        EQUIVALENT,
        "is read with item() alone, however many dimensions it has",
        "adamax",
        "_multi_tensor_adamax",
        STATEMENT,
        before=r"^lr = _to_scalar\(lr\)$",
    ),
    Review(
        EQUIVALENT,
        "is read with item() and overwritten by a value that has the history of the learning rate",
        "asgd",
        "ASGD._init_group",
        CALL,
        before=r"\.clone\(\)\.detach\(\)$",
        after=r"\.clone\(\)$",
    ),
    *(
        Review(EQUIVALENT, "nobody writes into a gathered gradient", "lbfgs", function, CALL, before=before)
        for function, before in (
            ("_strong_wolfe", r"\bg(_new)?\.clone\(memory_format="),
            ("LBFGS.step", r"^prev_flat_grad = flat_grad\.clone\(memory_format="),
        )
    ),
    Review(
        EQUIVALENT,
        "the absolute value of the same difference",
        "lbfgs",
        "_strong_wolfe",
        after=r"^if abs\(bracket\[0\] - bracket\[1\]\) \* d_norm",
        before=r"^if abs\(bracket\[1\] - bracket\[0\]\) \* d_norm",
    ),
    Review(
        EQUIVALENT,
        "it is nearer to one end there, so that the distances are never equal",
        "lbfgs",
        "_strong_wolfe",
        before=r"^if abs\(t - max\(bracket\)\) < abs\(t - min\(bracket\)\):$",
        after=r"^if abs\(t - max\(bracket\)\) <= abs\(t - min\(bracket\)\):$",
    ),
    Review(
        EQUIVALENT,
        "the gradient at the high end is overwritten before that end can become the low one",
        "lbfgs",
        "_strong_wolfe",
        STATEMENT,
        before=r"^bracket_g\[high_pos\] = bracket_g\[low_pos\]$",
    ),
    Review(
        EQUIVALENT,
        "no class of torch.optim has a required setting",
        "optimizer",
        "Optimizer.add_param_group",
        COMPARISON,
        before="default is required and name not in param_group",
        after="default is required and name in param_group",
    ),
    Review(
        EQUIVALENT,
        "lists devices among which a cpu is looked for",
        "optimizer",
        "_get_capturable_supported_devices",
        before=r"\.append\(|supports_xla|is_scripting",
    ),
    Review(
        EQUIVALENT,
        "no cpu is among the supported devices, whatever else is asked",
        kind=COMPARISON,
        before=r"capturable_supported_devices|\.device\.type == step",
        after=r"\.device\.type != \w+\.device\.type",
    ),
    Review(
        EQUIVALENT,
        "no cpu is among the supported devices, whichever tensor is asked",
        kind=ARGUMENTS,
        before=r"capturable_supported_devices for .* in zip\(",
    ),
    Review(
        EQUIVALENT,
        "on a CPU it chooses neither, unless there is nothing to update",
        "sgd",
        "sgd",
        CONSTANT,
        before=r"_default_to_fused_or_foreach\(",
        after=r"differentiable=True",
    ),
    Review(
        EQUIVALENT,
        "only whether to take foreach is heard, which a CPU never is",
        function="[a-z]*",
        kind=CONSTANT,
        before=r"^_, foreach = _default_to_fused_or_foreach\(",
    ),
    Review(
        EQUIVALENT,
        "whoever is differentiable hears only whether to take foreach",
        "optimizer",
        "_default_to_fused_or_foreach",
        CONSTANT,
        after=r"^return \(True, False\)$",
        guard=r"^torch\.jit\.is_scripting\(\) or differentiable$",
    ),
    Review(
        EQUIVALENT,
        "decides on a warning of accelerators alone",
        "optimizer",
        before="_warned_capturable_if_run_uncaptured",
    ),
    Review(
        EQUIVALENT,
        "all tensors are on one device",
        "optimizer",
        "*._process_value_according_to_param_policy",
        CALL,
        before=r"^return value\.to\(device=param\.device\)$",
    ),
    Review(
        EQUIVALENT,
        "a product and a quotient with -1 are the same float",
        kind=OPERATOR,
        before=r" \* -1\b",
        after=r" / -1\b",
    ),
    Review(EQUIVALENT, "all of them become real, in whichever order", kind=ARGUMENTS, before=r"^_view_as_real\("),
    Review(
        EQUIVALENT,
        "products commute",
        "rprop",
        "_multi_tensor_rprop",
        ARGUMENTS,
        before=r"^signs = torch\._foreach_mul\(",
    ),
    Review(
        EQUIVALENT,
        "only spares looking for complex parameters",
        function="*._init_group",
        kind=CONSTANT,
        before=r"^has_complex = False$",
    ),
    Review(
        EQUIVALENT,
        "None is as false",
        function="[a-z]*",
        kind=STATEMENT,
        before=r"^(foreach|fused) = False$",
        guard=r"^(foreach|fused) is None$",
    ),
    Review(EQUIVALENT, "what else is gathered is thrown away", "sgd", "_multi_tensor_sgd", STATEMENT, before="^break$"),
    Review(
        EQUIVALENT,
        "squeezing a number changes nothing",
        "optimizer",
        "_to_scalar",
        CONSTANT,
        after=r"x\.dim\(\) != -1:",
    ),
    Review(
        EQUIVALENT,
        "gradients become zero one by one or together",
        "optimizer",
        "Optimizer.zero_grad",
        before=r"^foreach = self\.defaults\.get\(",
    ),
    *(
        Review(
            EQUIVALENT,
            "every instance has its name by then, and naming it again changes nothing",
            "optimizer",
            "Optimizer.zero_grad",
            kind,
            before=before,
        )
        for kind, before in ((STATEMENT, r"^self\._patch_step_function\(\)$"), (CONDITION, r"_zero_grad_profile_name"))
    ),
    Review(
        EQUIVALENT,
        "decides on a warning alone",
        "lr_scheduler",
        "LRScheduler.__init__*",
        STATEMENT,
        before=r"^patch_track_step_called\(self\.optimizer\)$|^opt\.step = wrap_step\(",
    ),
    Review(
        EQUIVALENT,
        "all of them belong to one optimizer",
        "lr_scheduler",
        "ChainedScheduler.*",
        after=r"_schedulers\[-0\]\.optimizer",
    ),
    *(
        Review(
            EQUIVALENT,
            "the first step, made at construction, sets it again",
            "lr_scheduler",
            f"{name}.__init__",
            STATEMENT,
            before=r"^group\['(betas|momentum)'\] = ",
        )
        for name in ("CyclicLR", "OneCycleLR")
    ),
)
"""Every entry."""
