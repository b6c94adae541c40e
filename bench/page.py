"""Write the figures of `bench/results.json` into docs/performance.md, and draw docs/performance.svg.

python bench/page.py           # after bench/run.py
python bench/page.py --check   # tell whether the page holds the figures
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results.json"
PAGE = ROOT / "docs" / "performance.md"
CHART = ROOT / "docs" / "performance.svg"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
Entry = Mapping[str, Any]


def ratios(entry: Entry, name: str) -> list[float]:
    """Give a contender's wall time, round by round, as a multiple of rd-import's in the same round."""
    ours = entry["figures"]["rd-import"]["seconds"]
    return [
        theirs / mine for theirs, mine in zip(entry["figures"][name]["seconds"], ours, strict=True)
    ]


def table(results: Mapping[str, Entry]) -> str:
    """Write one line per case and contender."""
    lines = [
        "| case | who | wall s | CPU s | peak MB | requests | × rd-import's time |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in results.values():
        for name, one in entry["figures"].items():
            found = ratios(entry, name)
            ratio = "1" if name == "rd-import" else f"{statistics.median(found):.2f}"
            spread = (
                "" if len(found) == 1 or ratio == "1" else f" ({min(found):.2f}-{max(found):.2f})"
            )
            lines.append(
                f"| {entry['what'] if name == 'rd-import' else ''} | {name}"
                f" | {statistics.median(one['seconds']):.1f} | {statistics.median(one['cpu_s']):.1f}"
                f" | {max(one['peak_mb']):.0f} | {_number(one['requests'])} | {ratio}{spread} |"
            )
    rounds = {len(entry["figures"]["rd-import"]["seconds"]) for entry in results.values()}
    machines = ", ".join(sorted({entry["machine"] for entry in results.values()}))
    lines += [
        "",
        f"{machines}; medians of {_listed(rounds)} interleaved rounds, the highest peak of all.",
    ]
    return "\n".join(lines) + "\n"


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _listed(rounds: set[int]) -> str:
    return " or ".join(str(one) for one in sorted(rounds))


def chart(results: Mapping[str, Entry]) -> str:
    """Draw, per case, how many times as long as rd-import each contender takes."""
    bars: list[tuple[str, str, float]] = []
    for entry in results.values():
        label = str(entry["what"])
        for name in entry["figures"]:
            if name != "rd-import":
                bars.append((label, name, statistics.median(ratios(entry, name))))
                label = ""
    height, left, width = 20, 330, 380
    longest = max((ratio for *_, ratio in bars), default=1)
    total = height * (len(bars) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + 110 + width + 60} {total}"'
        ' font-family="sans-serif" font-size="12">',
        "<title>Wall time as a multiple of rd-import's</title>",
        f'<rect width="100%" height="{total}" fill="#fff"/>',
        f'<text x="4" y="{height - 6}" font-weight="bold">time, as a multiple of rd-import\'s</text>',
    ]
    one = left + 110 + width / longest
    for number, (label, name, ratio) in enumerate(bars, start=1):
        y = number * height
        colour = "#2a6f97" if ratio >= 1 else "#c1666b"
        parts += [
            f'<text x="4" y="{y + 14}">{escape(label)}</text>',
            f'<text x="{left + 104}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{left + 110}" y="{y + 3}" width="{max(1, width * ratio / longest):.1f}"'
            f' height="{height - 6}" fill="{colour}"/>',
            f'<text x="{left + 116 + width * ratio / longest:.1f}" y="{y + 14}">{ratio:.1f}</text>',
        ]
    parts.append(
        f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{height}" y2="{total - height}" stroke="#333"'
        ' stroke-dasharray="3 3"/>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def page(text: str, results: Mapping[str, Entry]) -> str:
    """Put the table in its place on the page."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}{table(results)}{END}{after}"


def main() -> None:
    """Write page and chart, or compare them."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--check", action="store_true")
    asked = words.parse_args()
    results = json.loads(RESULTS.read_text())
    wanted = {PAGE: page(PAGE.read_text("utf-8"), results), CHART: chart(results)}
    if asked.check:
        stale = [path.name for path, text in wanted.items() if path.read_text("utf-8") != text]
        sys.exit(f"not as the figures are: {', '.join(stale)}" if stale else 0)
    for path, text in wanted.items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
