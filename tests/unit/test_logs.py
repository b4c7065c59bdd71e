"""What a rule's script shows, and where: run as Snakemake runs it, in a process of its own."""

import json
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def run(tmp_path):
    def run(body, **options):
        code = f"import sys\nsys.path.insert(0, {str(SCRIPTS)!r})\nfrom mosaic.logs import job_log\n"
        code += f"with job_log({str(tmp_path / 'logs' / 'job.log')!r}, threads=3, **{options!r}):\n"
        code += "".join(f"    {line}\n" for line in body.splitlines())
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        return done, (tmp_path / "logs" / "job.log").read_text()

    return run


def test_an_input_error_is_read_on_the_terminal_and_in_the_log(run):
    done, log = run("from mosaic.errors import InputError\nraise InputError('is bad', where='x.h5ad', hint='mend it')")
    assert done.returncode == 1
    for text in (done.stderr, log):
        assert "InputError: x.h5ad: is bad\n    Hint: mend it" in text
        assert "Traceback" not in text


def test_a_fault_does_not_move_the_cursor(run):
    names = r"'\x1b[2J', hint='\u202ea\nb'"
    faults = f"InputError({names}), InputError('two')"
    done, _ = run(f"from mosaic.errors import InputError\nraise InputError.of_all([{faults}], 'x')")
    assert done.stderr == ("\nInputError: 2 faults in x:\n  1. \\x1b[2J\n    Hint: \\u202ea\\nb\n  2. two\n\n")


def test_a_crash_below_python_is_in_the_log(run):
    done, log = run("import ctypes\nctypes.string_at(0)")
    assert done.returncode < 0
    assert "Segmentation fault" in log
    assert "string_at" in log


def test_an_import_that_fails_is_in_the_log(run):
    done, log = run("import a_package_that_is_not_there")
    assert done.returncode == 1
    assert "Traceback" in log
    assert "a_package_that_is_not_there" in log
    assert "ModuleNotFoundError" in done.stderr
    assert "job.log" in done.stderr
    assert "Traceback" not in done.stderr


def test_progress_and_warnings_reach_the_terminal_all_else_the_log(run):
    done, log = run(
        "import logging, os\n"
        "logger = logging.getLogger('mosaic.training')\n"
        "logger.info('detail')\n"
        "logger.info('halfway', extra={'progress': True})\n"
        "logger.warning('careful')\n"
        "print('printed')\n"
        "os.system('echo from a child')"
    )
    assert done.returncode == 0
    assert done.stderr.splitlines() == ["halfway", "careful"]
    assert done.stdout == ""
    for text in ("detail", "halfway", "careful", "printed", "from a child"):
        assert text in log


def test_threads_are_those_asked_for(run):
    _, log = run("import os\nprint(os.environ['OMP_NUM_THREADS'], os.environ['NUMBA_NUM_THREADS'])")
    assert log.strip() == "3 3"


def test_a_full_disk_is_told_in_words(run):
    done, log = run("raise OSError(28, 'No space left on device')")
    assert "the disk is full ([Errno 28] No space left on device)" in done.stderr
    assert "Hint: free space, then run again" in done.stderr
    assert "Traceback" in log


def test_a_full_disk_is_told_where_the_log_is_on_it():
    code = f"import sys\nsys.path.insert(0, {str(SCRIPTS)!r})\nfrom mosaic.logs import job_log\n"
    code += "with job_log('/dev/full'):\n    raise OSError(28, 'No space left on device')\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "InputError: " in done.stderr
    assert "the disk is full" in done.stderr


def test_a_log_that_cant_be_opened_is_told(tmp_path):
    (tmp_path / "logs").touch()
    code = f"import sys\nsys.path.insert(0, {str(SCRIPTS)!r})\nfrom mosaic.logs import job_log\n"
    code += f"with job_log({str(tmp_path / 'logs' / 'job.log')!r}):\n    print('never')\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FileExistsError" in done.stderr
    assert "Traceback" not in done.stderr


def test_versions_are_recorded_once_the_work_is_done(run, tmp_path):
    record = tmp_path / "logs" / "job.versions.json"
    run("import pandas")
    assert not record.exists()
    run("import pandas", versions=str(record))
    found = json.loads(record.read_text())
    assert found["Python"] == platform.python_version()
    assert found["pandas"] == metadata.version("pandas")
    assert "mosaic" in found
    assert "pytest" not in found  # installed, but not loaded
    assert record.stat().st_mode == record.with_name("job.log").stat().st_mode  # neither can be executed
    record.unlink()
    run("import pandas\nraise ValueError", versions=str(record))
    assert not record.exists()
