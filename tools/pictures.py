"""Make the pictures of the READMEs from real runs against the practice server; `make pictures` does.

Each is one image: the terminal on the left, the report of the same run on the right.
"""

import base64
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import chromium, opened  # noqa: E402 -- what the tests look through
from pseudo_terminal import COLUMNS, on_a_terminal  # noqa: E402
from rd_import.catalogue import LANGUAGES, speak  # noqa: E402
from rd_import.messages import say  # noqa: E402
from rd_import.sandbox import Behaviour as Behaving  # noqa: E402
from rd_import.sandbox import Fault, Sandbox  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
WORDS = ("orders.csv", "--type", "ECOMMERCE_ORDER_PLACED", "--max-body", "1000")
AUDIT = ("--audit", "orders.audit.parquet")
REPORT = {"width": 820, "height": 1000}
PAGE = """<!doctype html><style>
body { margin: 0; padding: 24px; display: flex; gap: 24px; align-items: flex-start; background: #e4e8ee; }
img { display: block; height: 860px; border-radius: 8px; box-shadow: 0 2px 12px #0003; }
</style><img src="data:image/svg+xml;base64,{terminal}"><img src="data:image/png;base64,{report}">"""
WITHOUT_WEB_FONTS = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def main() -> None:
    """Run, in each language, an import of which one answer is lost, and keep how terminal and report look."""
    PICTURES.mkdir(exist_ok=True)
    with chromium() as browser:
        for language in LANGUAGES:
            speak(language)
            name = "run.png" if language == "en" else f"run.{language}.png"
            _picture(browser, language, PICTURES / name)


def _picture(browser: Browser, language: str, path: Path) -> None:
    with tempfile.TemporaryDirectory() as name, Sandbox() as server:
        folder = Path(name)
        shutil.copy(ROOT / "sample_data" / "orders.csv", folder)
        server.behaviour = Behaving(faults=(Fault("drop-after", at=(4,)),))
        screen = on_a_terminal(
            *WORDS,
            *AUDIT,
            cwd=folder,
            state=folder / "state",
            env={
                "RD_IMPORT_BASE_URL": server.url,
                "RD_IMPORT_TOKEN": server.token,
                "LC_ALL": "C.UTF-8" if language == "en" else "pt_BR.UTF-8",
            },
            answer="y\nn\n",
        )
        svg = _drawn(" ".join(("rd-import", *WORDS)), screen.raw)
        address = (folder / "orders.report.html").as_uri()
        with opened(browser, address, viewport=REPORT, color_scheme="light") as looked:
            report = looked.page.screenshot()
        page = folder / "page.html"
        page.write_text(
            PAGE.replace("{terminal}", base64.b64encode(svg.encode()).decode()).replace(
                "{report}", base64.b64encode(report).decode()
            ),
            encoding="utf-8",
        )
        with opened(
            browser, page.as_uri(), viewport={"width": 1900, "height": 908}, device_scale_factor=1
        ) as looked:
            width = looked.page.evaluate(
                "[...document.images].at(-1).getBoundingClientRect().right"
            )
            looked.page.set_viewport_size({"width": int(width) + 24, "height": 908})
            looked.page.screenshot(path=path)


def _drawn(command: str, raw: str) -> str:
    """Draw the preview's head and the closing screen, as the terminal showed them."""
    only_colours = re.sub(r"\x1b\[[0-9;?]*[A-Za-ln-z]", "", raw)
    lines = [line.rpartition("\r")[2] for line in only_colours.replace("\r\n", "\n").split("\n")]
    plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in lines]
    first = next(at for at, line in enumerate(plain) if line.startswith("ECOMMERCE"))
    cut = plain.index("", plain.index(say("preview.fatal")))
    closing = next(at for at, line in enumerate(plain) if re.search(r"\d+ accepted {2}", line))
    shown = [f"$ {command}", *lines[first:cut], "", "…", "", *lines[closing:]]
    console = Console(record=True, width=COLUMNS + 6, file=Path(os.devnull).open("w"))  # noqa: SIM115
    console.print(Text.from_ansi("\n".join(shown)))
    return console.export_svg(title="rd-import", code_format=WITHOUT_WEB_FONTS, unique_id="screen")


if __name__ == "__main__":
    main()
