"""The pages of the site that are no files in docs/, and the links between all; mkdocs calls the functions by name.

- README.md, config/README.md, CONTRIBUTING.md and CHANGELOG.md become pages;
- the notebooks become pages, as they are stored: not executed;
- the library gets a page for each of its wings, from its docstrings;
- the gallery shows the figures of a run of the demo, if there is one in ``results`` or in the folder that the variable
  ``RESULTS`` of the environment names, with the captions of the report.

Links to files of the repository that are no pages lead to GitHub if it builds the site, and are plain text elsewhere.
"""

import ast
import json
import os
import re
import sys
from pathlib import Path

import jinja2
import yaml
from mkdocs.structure.files import File

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from mosaic.config import figures, settings  # noqa: E402
from mosaic.config.schema import read_yaml  # noqa: E402

# Files of the repository that are pages of another name.
MOVED = {
    "README.md": "index.md",
    "config/README.md": "configuration.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
# Wildcards of the demo's figures, where a caption names them.
DEMO = {"method": "spamosaic", "seed": "1234", "slice": "s2", "modality": "adt"}
LIST_ITEM = re.compile(r"(\s*)([-*]|\d+\.)( +)")


def on_config(config):
    """Add the pages of the library to the menu."""
    (library,) = (part["Library"] for part in config.nav if isinstance(part, dict) and "Library" in part)
    library += [f"library/{name}.md" for name in library_modules()]
    return config


def on_files(files, config):
    """Add the pages that are no files."""
    pages = {page: (REPOSITORY / name).read_text(encoding="utf-8") for name, page in MOVED.items()}
    for notebook in sorted((REPOSITORY / "docs/notebooks").glob("*.ipynb")):
        pages[f"notebooks/{notebook.stem}.md"] = as_markdown(json.loads(notebook.read_text(encoding="utf-8")))
    pages |= {f"library/{name}.md": page for name, page in library_pages().items()}
    pictures = {}
    pages["gallery.md"] = gallery(Path(os.environ.get("RESULTS", REPOSITORY / "results")), pictures)
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for name, path in pictures.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, **_):
    """Make the links and lists of the repository's Markdown those of the site."""
    source = next((name for name, moved in MOVED.items() if moved == page.file.src_uri), f"docs/{page.file.src_uri}")
    return indented(re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", lambda match: linked(match, source), markdown))


def linked(match, source: str) -> str:
    """A link of a file of the repository, as one of its page."""
    mark, text, target = match.groups()
    path, _, anchor = target.partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return match.group()
    there = os.path.normpath(os.path.join(os.path.dirname(source), path))
    if source.startswith("docs/") and not (REPOSITORY / there).exists():
        return match.group()  # to a page that is made
    page = there.removeprefix("docs/") if there.startswith("docs/") else MOVED.get(there)
    if page is not None and page.endswith(".ipynb"):
        page = page.replace(".ipynb", ".md")
    if page is None or (not page.endswith(".md") and not mark):
        hosted = os.environ.get("GITHUB_REPOSITORY")
        return f"[{text}](https://github.com/{hosted}/blob/main/{there})" if hosted else text
    own = MOVED.get(source, source.removeprefix("docs/"))
    relative = os.path.relpath(page, os.path.dirname(own) or ".")
    return f"{mark}[{text}]({relative}{'#' if anchor else ''}{anchor})"


def indented(markdown: str) -> str:
    """Lists as Python-Markdown reads them: after an empty line, and what belongs to an item indented by four."""
    lines, levels, fence, before = [], [], None, ""
    for line in markdown.splitlines():
        mark = re.match(r"\s*(```+)", line)
        inside = fence is not None
        if mark and (not inside or line.strip() == fence):
            fence = None if inside else mark.group(1)
        width = len(line) - len(line.lstrip())
        item = None if inside else LIST_ITEM.match(line)
        if line.strip() and not inside:
            while levels and width < levels[-1]:
                levels.pop()
        if item:
            if before.strip() and not levels and not LIST_ITEM.match(before):
                lines.append("")
            lines.append("    " * len(levels) + line.lstrip())
            levels.append(item.end())
        else:
            most = levels[-1] if levels else 0
            lines.append("    " * len(levels) + line[min(width, most) :] if line.strip() else "")
        before = line
    return "\n".join(lines)


def as_markdown(notebook: dict) -> str:
    """The cells of a notebook as text and blocks of Python."""
    cells = (("".join(cell["source"]), cell["cell_type"]) for cell in notebook["cells"])
    return "\n\n".join(f"```python\n{text}\n```" if kind == "code" else text for text, kind in cells)


def library_modules() -> dict[str, list[str]]:
    """Modules of the library by page: the two faces by themselves, then its wings, then what all share."""
    package = REPOSITORY / "scripts/mosaic"
    wings = sorted(path.parent.name for path in package.glob("*/__init__.py"))
    named = {name: [name] for name in ("api", "pipeline", "sheet")}
    named |= {
        wing: sorted(
            ".".join(path.relative_to(package).with_suffix("").parts)
            for path in (package / wing).rglob("*.py")
            if path.name != "__init__.py"
        )
        for wing in wings
    }
    rest = sorted(path.stem for path in package.glob("*.py") if path.name != "__init__.py" and path.stem not in named)
    return named | {"shared": rest}


def library_pages() -> dict[str, str]:
    """Pages of the library by name."""
    package = REPOSITORY / "scripts/mosaic"
    pages = {
        "index": "# The library\n\n`pip install mosaic-spatial` installs the library alone, without the workflow, and "
        "`import mosaic` loads it; a clone has it in `scripts/`. Importing it loads nothing heavy.\n\n"
    }
    for name, modules in library_modules().items():
        init = package / name / "__init__.py"
        told = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) if init.exists() else ""
        title = {"shared": "Shared by all"}.get(name, f"mosaic.{name}")
        entries = "\n\n".join(f"::: mosaic.{module}" for module in modules)
        pages[name] = f"# {title}\n\n{told or ''}\n\n{entries}\n"
        pages["index"] += f"- [{title}]({name}.md)\n"
    return pages


def gallery(results: Path, pictures: dict[str, Path]) -> str:
    """The page of figures with their captions; adds its pictures, by their names on the site, to ``pictures``."""
    schemas = [read_yaml(REPOSITORY / f"workflow/schemas/{name}.schema.yaml") for name in ("config", "slices")]
    design = read_yaml(REPOSITORY / "resources/demo.yaml")
    made = [f"data/demo/{name}.{modality}.h5ad" for name, own in design["slices"].items() for modality in own]
    here = Path.cwd()
    os.chdir(REPOSITORY)
    try:
        config, _ = settings.load(yaml.safe_load(Path("config/config.yaml").read_text()), *schemas, made=made)
    finally:
        os.chdir(here)
    templates = jinja2.Environment(undefined=jinja2.ChainableUndefined)
    there = any(results.glob("*/seed-*/figures/domains.png"))
    text = "# Gallery\n\nThe figures of the report, and what to look for in each. "
    text += (
        "They are of the demo.\n\n"
        if there
        else "This page was built without a run of the demo: pictures are missing.\n\n"
    )
    for name, figure in figures.FIGURES.items():
        if figure.endings[-1] != "png":
            continue
        pattern = re.sub(r"\{\w+\}", "*", figure.path) + ".png"
        found = sorted(results.glob(pattern))
        if there and not found:
            continue  # the demo has no such figure
        caption = (REPOSITORY / f"workflow/report/{name}.rst").read_text(encoding="utf-8")
        told = templates.from_string(caption).render(snakemake={"wildcards": DEMO, "config": config, "params": {}})
        told = re.sub(r"``(.+?)``", r"`\1`", told, flags=re.DOTALL).strip()
        title = figure.label.format_map(DEMO)
        text += f"## {title[0].upper()}{title[1:]}\n\n"
        if found:
            pictures[f"gallery/{name}.png"] = found[0]
            text += f"![{title}](gallery/{name}.png)\n\n"
        text += f"{told}\n\n"
    return text
