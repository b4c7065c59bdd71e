"""Run the code cells of a notebook in one process and save their figures: `run_notebook.py FILE FOLDER`.

What a cell's last expression gives is printed. Cells hold plain Python: no magics.
"""

import ast
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import nbformat


def run(path: Path, figures: Path) -> dict:
    """Run the cells of a notebook; their names and values."""
    notebook = nbformat.read(path, as_version=4)
    names: dict = {"__name__": "__main__"}
    # Figures stay open until they are saved.
    plt.show = lambda *_, **__: None
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        where = f"{path.name}, cell {number}"
        tree = ast.parse(cell.source, where)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, where, "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)
            if value is not None:
                print(f"[{number}]", repr(value), flush=True)
        for figure in map(plt.figure, plt.get_fignums()):
            figure.savefig(figures / f"{path.stem}-{number}-{figure.number}.png", dpi=80, bbox_inches="tight")
        plt.close("all")
    return names


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
