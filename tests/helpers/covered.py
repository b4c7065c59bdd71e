"""How much of each module of the library the tests ran; fails where it is too little and no reason is given.

    .venv/bin/python tests/helpers/covered.py .coverage.json

The file is coverage's report as JSON, which ``make test COVERAGE=1`` writes.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

LEAST = 80  # percent of a module's lines
# Modules of which the tests that are not slow run less, and why.
REASONS = {
    "logs.py": "tests/unit/test_logs.py runs it in processes of their own, as rules do",
    "analyse/spatial_data.py": "it needs spatialdata, which is in an environment of its own, where `make envs` runs "
    "tests/unit/analyse/test_spatial_data.py",
    "baselines/published.py": "it drives the published package, which is in an environment of its own, where "
    "tests/workflow/test_baseline_runs.py runs it",
    "baselines/midas.py": "it drives scmidas, which is in an environment of its own, where "
    "tests/workflow/test_baseline_runs.py runs it",
}


def faults(percent: Mapping[str, float], reasons: Mapping[str, str]) -> list[str]:
    """What is wrong with the coverage of modules, in sentences.

    Parameters
    ----------
    percent
        Per module, as a path below ``scripts/mosaic``, the percentage of its lines that the tests ran.
    reasons
        Modules of which tests may run less than ``LEAST``, and why.
    """
    few = {module for module, share in percent.items() if share < LEAST}
    return [
        *(
            f"{module}: tests run {percent[module]:.1f} % of its lines, and {LEAST} % are the least; add tests, or the "
            "reason to REASONS in tests/helpers/covered.py"
            for module in sorted(few - set(reasons))
        ),
        *(
            f"{module}: REASONS says that tests run too little of it, and they don't"
            for module in sorted(set(reasons) - few)
        ),
    ]


def percentages(report: Path) -> dict[str, float]:
    """Per module the percentage of its lines that ran, of coverage's report as JSON."""
    files = json.loads(report.read_text())["files"]
    return {name.split("scripts/mosaic/")[1]: own["summary"]["percent_covered"] for name, own in files.items()}


if __name__ == "__main__":
    found = faults(percentages(Path(sys.argv[1])), REASONS)
    sys.exit("\n".join(found) if found else 0)
