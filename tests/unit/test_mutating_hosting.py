"""The package executed anew, in processes of its own; and those processes, whatever becomes of them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.mutating import operators
from benchmarks.mutating.files import FILES, File, same
from benchmarks.mutating.forks import HANGS, Ended, each, limited
from benchmarks.mutating.hosting import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.mutating.forks import Send


def forked(work: Callable[[Send], None]) -> Ended[int]:
    (ended,) = each(lambda _, send: work(send), [0], 1)
    return ended


def stepped(**settings: Any) -> float:  # noqa: ANN401 - whatever the constructor takes
    """Where one step of Adam against a gradient of 1 leads from 0."""
    parameter = torch.nn.Parameter(torch.zeros(()))
    parameter.grad = torch.ones(())
    torch.optim.Adam([parameter], lr=0.5, **settings).step()
    return float(parameter.detach())


def test_the_package_executed_anew_does_the_same_with_other_classes() -> None:
    host, old = Host(), torch.optim.AdamW

    def work(send: Send) -> None:
        host.execute()
        new = torch.optim.AdamW
        send((stepped(), new is old, issubclass(new, torch.optim.Adam), sys.modules["torch.optim.adamw"].AdamW is new))

    assert forked(work).messages == [(stepped(), False, True, True)]
    assert torch.optim.AdamW is old


def test_an_altered_module_is_what_every_class_runs() -> None:
    host = Host()
    adam = next(file for file in FILES if file.name == "adam")

    def work(send: Send) -> None:
        turned = [
            alteration
            for alteration in adam.alterations()
            if alteration.kind == operators.OPERATOR
            and alteration.texts()[1] == "param.addcdiv_(exp_avg, denom, value=step_size)"
        ]
        turned[0].apply()
        host.execute({adam.module: adam.code()})
        send((len(turned), stepped(), stepped(foreach=True)))

    assert forked(work).messages == [(1, -stepped(), stepped(foreach=True))]


def test_whoever_holds_a_class_is_given_its_successor() -> None:
    this = sys.modules[__name__]
    this.__dict__["HELD"] = torch.optim.SGD
    host = Host()

    def work(send: Send) -> None:
        host.execute()
        send(this.__dict__["HELD"] is torch.optim.SGD)

    try:
        assert forked(work).messages == [True]
    finally:
        del this.__dict__["HELD"]


def test_every_file_is_there_and_can_be_altered_in_many_ways() -> None:
    counts = {file.name: len(file.alterations()) for file in FILES}
    assert min(counts.values()) > 20
    assert sum(counts.values()) > 3000


def test_only_the_named_classes_of_a_file_are_altered() -> None:
    functions = {alteration.site.function for alteration in File("swa_utils", only=("SWALR",)).alterations()}
    assert functions
    assert all(name.startswith("SWALR") for name in functions)


def test_code_is_the_same_whatever_its_lines_and_not_where_a_constant_is_of_another_type() -> None:
    one, moved, other = (compile(text, "module", "exec") for text in ("f(0)", "\n\nf(0)", "f(False)"))
    assert same(one, moved)
    assert not same(one, other)


def test_code_differs_where_a_function_in_it_does() -> None:
    one, other = (compile(f"def f(a, b):\n    return a {op} b", "module", "exec") for op in "+-")
    assert not same(one, other)


def test_a_process_that_computes_for_too_long_hangs() -> None:
    def work(send: Send) -> None:
        send("begun")
        limited(0.05)
        while True:
            pass

    ended = forked(work)
    assert (ended.code, ended.messages) == (HANGS, ["begun"])


def test_a_process_that_is_killed_leaves_what_it_sent() -> None:
    def work(send: Send) -> None:
        send("begun")
        os.kill(os.getpid(), signal.SIGSEGV)

    ended = forked(work)
    assert (ended.code, ended.messages) == (-signal.SIGSEGV, ["begun"])


def test_work_is_done_for_every_key_some_at_a_time() -> None:
    ended = list(each(lambda key, send: send(key * key), range(7), 3))
    assert sorted((one.key, one.messages[0]) for one in ended) == [(k, k * k) for k in range(7)]
    assert {one.code for one in ended} == {0}
