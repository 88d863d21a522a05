"""Is it worse? Four commits to an update rule, and what a reviewer of each is told."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from pytest_optcheck.goldens import Goldens

if TYPE_CHECKING:
    from pytest_optcheck.format import Golden

SAMPLE = Path(__file__).parents[2] / "fixtures" / "worse_project"
SPEC = "rule:Adaptive(lr=0.02)"
COMMITS = {"worse": "regression", "better": "improved", "neutral": "changed", "harmless": "match"}
"""What lies in ``commits/``, and what it has to be called."""

SIZE = r"[+−]\d+\.\d % \[[+−]\d+\.\d, [+−]\d+\.\d\]"  # noqa: RUF001 - a true minus
SENTENCE = re.compile(
    rf"final loss {SIZE}, (8|24) paired seeds(; [a-z -]+ {SIZE})*; held-out accuracy [+−]\d+\.\d points"  # noqa: RUF001 - ditto
)


class Worse:
    """A copy of the sample project and pytest runs on it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.root = pytester.path
        shutil.copytree(SAMPLE, self.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        self.store = Goldens(self.root / "reference_curves")

    def run(self, *arguments: str) -> pytest.RunResult:
        """Pytest in this process."""
        return self.pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)

    def golden(self) -> Golden:
        """Of the rule."""
        found = self.store.load(SPEC, "rings")
        assert found is not None
        return found

    def apply(self, commit: str) -> None:
        """Do to the rule what a commit did."""
        patch = ["git", "apply", str(self.root / "commits" / f"{commit}.patch")]
        subprocess.run(patch, cwd=self.root, check=True)  # noqa: S603 - our own words

    def spread(self) -> None:
        """Each commit in a module of its own, guarded by the golden of the rule as it was: four projects in one run."""
        before = (self.root / "rule.py").read_text(encoding="utf-8")
        specs = [SPEC.replace("rule", name) for name in COMMITS]
        for name, spec in zip(COMMITS, specs, strict=True):
            self.apply(name)
            (self.root / "rule.py").rename(self.root / f"{name}.py")
            (self.root / "rule.py").write_text(before, encoding="utf-8")
            self.store.save(structs.replace(self.golden(), spec=spec))
        self.configure(specs)

    def configure(self, specs: list[str]) -> None:
        """Set the list of optimizers."""
        path = self.root / "pyproject.toml"
        text = path.read_text(encoding="utf-8")
        assert f'["{SPEC}"]' in text
        path.write_text(text.replace(f'["{SPEC}"]', repr(specs)), encoding="utf-8")


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the golden is kept that the first test records."""
    return tmp_path_factory.mktemp("worse") / "reference_curves"


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, recorded: Path) -> Worse:
    """The sample project with its golden."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # edits within a second must not meet a cached module
    found = Worse(pytester)
    if not recorded.exists():
        found.run("--optcheck-update").assert_outcomes(passed=1)
        shutil.copytree(found.store.root, recorded)
    shutil.copytree(recorded, found.store.root, dirs_exist_ok=True)
    return found


def verdicts(path: Path) -> dict[str, set[str]]:
    """Module -> verdicts of its cases."""
    found: dict[str, set[str]] = {}
    for case in ET.parse(path).iter("testcase"):  # noqa: S314 - our own file
        properties = {p.get("name"): p.get("value") or "" for p in case.iter("property")}
        name = properties["optcheck_spec"].partition(":")[0]
        found.setdefault(name, set()).add(properties["optcheck_verdict"])
    return found


def told(result: pytest.RunResult) -> list[str]:
    """Headlines, and what the seeds say, in an order that does not depend on which case came first."""
    starts = ("REGRESSION:", "IMPROVED:", "CHANGED:", "convergence:", "decided:")
    return sorted(line.strip() for line in result.outlines if line.strip().startswith(starts))


def test_four_commits_get_their_verdicts_with_and_without_workers(project: Worse) -> None:
    project.spread()
    alone = project.run("--optcheck", "-n0", "--junit-xml=alone.xml")
    parallel = project.run("--optcheck", "-n2", "--junit-xml=parallel.xml")
    for name, result in {"alone": alone, "parallel": parallel}.items():
        result.assert_outcomes(passed=2, failed=6)
        assert verdicts(project.root / f"{name}.xml") == {commit: {kind} for commit, kind in COMMITS.items()}
    assert told(alone) == told(parallel)
    sentences = [line.partition("convergence:")[2].strip() for line in told(alone) if line.startswith("convergence")]
    assert len(sentences) == 6
    for sentence in sentences:
        assert SENTENCE.fullmatch(sentence), sentence
    spec = SPEC.replace("rule", "worse")
    alone.stdout.fnmatch_lines(
        [
            f"REGRESSION: {spec} converges worse than what its golden was recorded from",
            "  on rings, float64, cpu",
            "  convergence:   final loss +* % [[]+*, +*[]], 24 paired seeds; *held-out accuracy * points",
            "  decided:       worse: final loss (p *e-*)*; margin 1 %, confirmed on 16 fresh seeds",
            "  first outside: step 1, *",
            f"  reproduce:     pytest --optcheck --optcheck-optimizer '{spec}' --optcheck-workload rings",
            "  accept:        pytest --optcheck-update=changed *",
        ]
    )
    alone.stdout.fnmatch_lines(["8 checked · 2 match · 2 improved · 2 changed · 2 regression · 0 missing *"])


def test_a_regression_that_is_accepted_is_the_new_reference(project: Worse) -> None:
    before = project.golden().ensemble
    project.apply("worse")
    result = project.run("--optcheck-update=changed", "--optcheck-reason=meant")
    result.stdout.fnmatch_lines([f"recorded {SPEC} on rings: final loss * → *, regression, from step 1*"])
    after = project.golden().ensemble
    assert before is not None
    assert after is not None
    assert after != before
