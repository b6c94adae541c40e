"""Make the pictures of the READMEs from a real run against the practice server; `make pictures` does."""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import chromium, opened  # noqa: E402 -- what the tests look through
from pseudo_terminal import COLUMNS, on_a_terminal  # noqa: E402
from rd_import.sandbox import Behaviour as Behaving  # noqa: E402
from rd_import.sandbox import Fault, Sandbox  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
AUDIT = ("--audit", "orders.audit.parquet")
WIDTH, HEIGHT = 1000, 1240
WITHOUT_WEB_FONTS = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def main() -> None:
    """Run an import of which one answer is lost, and keep how terminal and report look."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, Sandbox() as server:
        folder = Path(name)
        shutil.copy(ROOT / "sample_data" / "orders.csv", folder)
        server.behaviour = Behaving(faults=(Fault("drop-after", at=(4,)),))
        words = ("orders.csv", "--type", "ECOMMERCE_ORDER_PLACED", "--max-body", "1000", *AUDIT)
        screen = on_a_terminal(
            *words,
            cwd=folder,
            state=folder / "state",
            env={
                "RD_IMPORT_BASE_URL": server.url,
                "RD_IMPORT_TOKEN": server.token,
                "LC_ALL": os.environ.get("LC_ALL", "C.UTF-8"),
            },
        )
        _draw(" ".join(("rd-import", *words)), screen.raw)
        with (
            chromium() as browser,
            opened(
                browser,
                (folder / "orders.report.html").as_uri(),
                viewport={"width": WIDTH, "height": HEIGHT},
            ) as looked,
        ):
            looked.page.screenshot(path=PICTURES / "report.png")


def _draw(command: str, raw: str) -> None:
    """Draw the end of the preview's head and the closing screen, as the terminal showed them."""
    only_colours = re.sub(r"\x1b\[[0-9;?]*[A-Za-ln-z]", "", raw)
    lines = [line.rpartition("\r")[2] for line in only_colours.replace("\r\n", "\n").split("\n")]
    plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in lines]
    first = next(at for at, line in enumerate(plain) if line.startswith("ECOMMERCE"))
    cut = plain.index("", plain.index("Why rows will not go"))
    closing = next(at for at, line in enumerate(plain) if re.search(r"\d+ accepted {2}", line))
    shown = [f"$ {command}", *lines[first:cut], "", "…", "", *lines[closing:]]
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"))  # noqa: SIM115
    console.print(Text.from_ansi("\n".join(shown)))
    svg = console.export_svg(title="rd-import", code_format=WITHOUT_WEB_FONTS, unique_id="screen")
    (PICTURES / "terminal.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
