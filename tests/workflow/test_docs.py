"""The documentation does what it says: commands run or resolve, links lead somewhere, and every config key is there."""

import ast
import importlib
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from markdown_it import MarkdownIt
from mock_snakemake import mock_snakemake
from prove import pins
from running import REPOSITORY
from snakedeploy.client import get_parser as snakedeploy_parser
from snakemake.cli import parse_args

from mosaic import sheet

PAGES = sorted(
    path
    for pattern in ("*.md", "config/**/*.md", "docs/**/*.md", "benchmarks/**/*.md")
    for path in REPOSITORY.glob(pattern)
)
COMMANDED = [path for path in PAGES if path.name != "CHANGELOG.md"]
MARKDOWN = MarkdownIt("commonmark").enable("table")


class Command(NamedTuple):
    """A command of a page, as it is typed, without its comment."""

    page: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)

    @property
    def program(self) -> str:
        return self.words[0].rpartition("/")[2]


def tokens(path: Path):
    for token in MARKDOWN.parse(path.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


def commands() -> list[Command]:
    """All that stands in blocks of code, line by line, and what begins with a program's name amid the text."""
    found = []
    for path in COMMANDED:
        page = str(path.relative_to(REPOSITORY))
        for token in tokens(path):
            if token.type in ("fence", "code_block"):
                if language_of(token) in ("sh", "bash", "console"):
                    lines = token.content.replace("\\\n", " ").splitlines()
                    found += [Command(page, line) for line in lines if shlex.split(line, comments=True)]
            elif token.type == "code_inline" and re.match(r"(\S*/)?(make|snakemake|pip|python) ", token.content):
                found.append(Command(page, token.content))
    # What several pages say is checked once.
    return sorted({command.text: command for command in reversed(found)}.values())


def blocks() -> list[tuple[str, str, str]]:
    """Page, language and content of all blocks that are no commands."""
    found = []
    for path in COMMANDED:
        for token in tokens(path):
            if token.type in ("fence", "code_block"):
                found.append((str(path.relative_to(REPOSITORY)), language_of(token), token.content))
    return [block for block in found if block[1] not in ("sh", "bash", "console")]


def language_of(token) -> str:
    """As the page says; without a word, Python begins with an import, settings with a key, and all else is typed."""
    if token.info.strip():
        return token.info.strip()
    if token.content.lstrip().startswith(("import ", "from ")):
        return "python"
    return "yaml" if re.match(r"\s*[\w-]+:(\s|$)", token.content) else "sh"


@pytest.mark.parametrize("command", commands(), ids=lambda command: f"{command.page}: {command.text[:60]}")
def test_command_runs_or_resolves(command, request):
    check = CHECKS.get(command.program)
    assert check is not None, f"{command.page}: no way is known to check {command.text!r}"
    if check is snakemake_resolves:
        check(command.words[1:], request.getfixturevalue("checkout"))
    else:
        check(command.words[1:])


def make_resolves(words: list[str]) -> None:
    done = subprocess.run(["make", "--dry-run", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def snakemake_resolves(words: list[str], checkout) -> None:
    """Would run; reports are made in test_demo.py, from a run that has something to report."""
    _, arguments = parse_args(words)
    if arguments.report:
        return
    # Names that stand for the reader's own.
    words = [word.replace("path/to/Snakefile", "Snakefile") for word in words]
    folder = checkout.folder / (arguments.directory or "")
    for given in arguments.configfile or []:
        path = checkout.folder / given
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((checkout.folder / "config/config.yaml").read_text())
        sheet = (yaml.safe_load(path.read_text()) or {}).get("slices")
        if sheet is None:
            continue
        if not (folder / sheet).exists():
            (folder / sheet).parent.mkdir(parents=True, exist_ok=True)
            (folder / sheet).write_text((checkout.folder / "config/slices.tsv").read_text())
        for line in (folder / sheet).read_text().splitlines()[1:]:
            data = folder / line.split("\t")[2]
            data.parent.mkdir(parents=True, exist_ok=True)
            data.touch()
    done = checkout.snakemake(*words, "--dry-run", cores=None)
    assert done.returncode == 0, done.stdout + done.stderr


def pip_is_pinned(words: list[str]) -> None:
    """What is installed has a version: that of the locks where they have one."""
    assert words[0] == "install"
    locked = {}
    for lock in ("requirements.lock", "requirements-test.lock"):
        locked |= pins((REPOSITORY / lock).read_text())
    for word in words[1:]:
        if word == ".":
            assert (REPOSITORY / "pyproject.toml").is_file()
            continue
        name, _, version = word.partition("==")
        assert version, f"{word} has no version"
        assert locked.get(name, version) == version


def python_resolves(words: list[str]) -> None:
    if words[:2] == ["-m", "pytest"]:
        command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", *words[2:]]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return
    if words[:2] == ["-m", "mosaic.sheet"]:
        # tests/unit/test_sheet.py runs it.
        assert sheet.parser().parse_args([word for word in words[2:] if word != "..."]).paths
        return
    script, arguments = REPOSITORY / words[0], words[1:]
    # Of a tutorial that tells to save its code, which is run here in a folder that goes.
    told = [page for page in COMMANDED if f"Save this as `{words[0]}`" in page.read_text()]
    if told:
        (code,) = (text for page, language, text in blocks() if REPOSITORY / page in told and language == "python")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "resources").symlink_to(REPOSITORY / "resources")
            done = subprocess.run(
                [sys.executable, "-c", code],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")},
                check=False,
            )
            assert done.returncode == 0
            assert list(Path(folder).rglob("*.h5ad"))
        return
    assert script.is_file(), f"there is no {words[0]}"
    if script.name == "mock_snakemake.py":
        rule, *given = arguments
        assert mock_snakemake(rule, folder=REPOSITORY, **dict(pair.split("=") for pair in given)).script.is_file()
        return
    if script.name == "prove.py":
        assert all((REPOSITORY / "envs" / f"{name}.yaml").is_file() for name in arguments)
        return
    # A measurement takes long: that it can be imported, and takes as many arguments as its own first lines say.
    module = importlib.import_module(script.stem)
    (usage,) = re.findall(rf"{re.escape(words[0])} (.*)", module.__doc__)
    needed = re.sub(r"\[.*\]", "", usage).split()
    most = float("inf") if "..." in usage else len(usage.split())
    assert len(needed) <= len(arguments) <= most, usage


def docker_resolves(words: list[str]) -> None:
    """`.github/workflows/release.yml` runs it with these arguments; there is no daemon in a test."""
    assert (words[0], words[-2:]) == ("run", ["--cores", "4"])
    released = (REPOSITORY / ".github/workflows/release.yml").read_text()
    assert all(word in released for word in words if word.startswith("--"))


def snakedeploy_resolves(words: list[str]) -> None:
    parsed = snakedeploy_parser().parse_args(words)
    assert (parsed.subcommand, parsed.tag) == ("deploy-workflow", "v0.1.0")


CHECKS = {
    "make": make_resolves,
    "snakemake": snakemake_resolves,
    "pip": pip_is_pinned,
    "python": python_resolves,
    "snakedeploy": snakedeploy_resolves,
    "docker": docker_resolves,
}


@pytest.mark.parametrize(("page", "language", "text"), blocks())
def test_code_compiles_and_what_it_imports_is_there(page, language, text):
    # A block of Snakemake is run by test_deployed.py.
    known = ("python", "yaml", "tsv", "text", "mermaid", "snakemake")
    assert language in known, f"{page}: no way is known to check a block of {language}"
    if language == "yaml":
        yaml.safe_load(text)
    for node in ast.parse(text).body if language == "python" else ():
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), page
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)


def test_graph_of_the_stages_is_a_part_of_the_rule_graph(checkout):
    (drawn,) = (text for page, language, text in blocks() if (page, language) == ("README.md", "mermaid"))
    chains = [line.split(" --> ") for line in map(str.strip, drawn.splitlines()) if " --> " in line]
    shown = {pair for chain in chains for pair in pairwise(chain)}
    # As the catalog of workflows calls it, which waits for fifteen seconds.
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    words = ["--forceall", "-s", "workflow/Snakefile", "-d", ".test", "-c", "1", "--rulegraph", "mermaid-js"]
    made = checkout.snakemake(*words, cores=None).stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 15
    names = dict(re.findall(r"(id\d+)\[(\w+)\]", made))
    edges = {(names[a], names[b]) for a, b in re.findall(r"(id\d+) --> (id\d+)", made)}
    assert len(shown) > 10
    assert shown <= edges


def anchors(path: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    read = MARKDOWN.parse(path.read_text(encoding="utf-8"))
    titles = [after.content for token, after in pairwise(read) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(path):
    for token in tokens(path):
        target = token.attrGet("href") or token.attrGet("src")
        if target is None or target.startswith(("https://", "mailto:")):
            continue
        assert "://" not in target, f"{target} is no https"
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(there), f"{target}: no such heading"


def leaves(schema: dict, path: str = ""):
    """Dotted names of the keys of a schema that hold a value; * stands for names that are the user's."""
    inner = {f"{path}{key}": rule for key, rule in schema.get("properties", {}).items()}
    # Names of the user's own, each with settings; where each has one value, they are part of the key's.
    if schema.get("additionalProperties", False) and schema["additionalProperties"].get("type") == "object":
        inner[f"{path}*"] = schema["additionalProperties"]
    for name, rule in inner.items():
        below = list(leaves(rule, f"{name}.")) if rule.get("type") == "object" else []
        yield from below or [name]


def test_config_readme_has_every_key_and_no_other():
    schema = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())
    text = (REPOSITORY / "config/README.md").read_text().split("## config.yaml")[1].split("\n## ")[0]
    documented, section = [], ""
    for line in text.splitlines():
        first = line.split("|")[1].strip() if line.startswith("|") else ""
        if heading := re.fullmatch(r"\*\*(.+)\*\*", first):
            section = re.sub(r"\{\w+\}", "*", heading.group(1)) + "."
        documented += [section + key for key in re.findall(r"`([^`]+)`", first)]
    assert len(set(documented)) == len(documented)
    assert set(documented) == set(leaves(schema))


def named_in_messages() -> set[tuple[str, str]]:
    """File, and each x.y in the text of an InputError; of the simulator they are keys of the demo's design."""
    found = set()
    for path in set((REPOSITORY / "scripts").rglob("*.py")) - set(
        (REPOSITORY / "scripts/mosaic/simulate").glob("*.py")
    ):
        for part in ast.walk(ast.parse(path.read_text())):
            names = [getattr(target, "id", "") for target in getattr(part, "targets", ())]
            if getattr(getattr(part, "func", None), "id", "") == "InputError" or {"hint", "problem"} & set(names):
                texts = [node.value for node in ast.walk(part) if isinstance(node, ast.Constant)]
                for text in filter(lambda value: isinstance(value, str), texts):
                    found |= {(path.name, name) for name in re.findall(r"\b[a-z]\w*\.[a-z]\w*", text)}
    return found


def test_messages_name_what_is_there():
    keys = set(leaves(yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())))
    package = REPOSITORY / "scripts/mosaic"
    modules = {
        path.stem: ".".join(("mosaic", *path.relative_to(package).with_suffix("").parts))
        for path in package.rglob("*.py")
    }
    named = named_in_messages()
    assert len(named) > 8
    for file, name in named - {(file, name) for file, name in named if name in keys or name.startswith("adata.")}:
        module, _, attribute = name.partition(".")
        found = importlib.import_module(modules.get(module, module))
        assert hasattr(found, attribute), f"{file}: there is no {name}"


def test_readme_is_short_and_links_every_page():
    text = (REPOSITORY / "README.md").read_text()
    assert len(text.splitlines()) < 150
    for path in (REPOSITORY / "docs").glob("*.md"):
        assert f"docs/{path.name}" in text, f"README does not link {path.name}"
