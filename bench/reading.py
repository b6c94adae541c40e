"""Measure `rd-import check` on a made file: seconds, and peak memory against the law.

The law is 300 MB and 24 bytes a row.

    python bench/reading.py --rows 10_000_000              # one order a row
    python bench/reading.py --rows 10_000_000 --items 3 --shuffled
    python bench/reading.py --bytes 4_000_000_000          # wide rows with a transcript each

The file is made in --folder (default: a temporary one) and removed at the end.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LAW_BASE_MB = 300
LAW_ROW_BYTES = 24
HEADER = (
    "email,identifier,currency,price,total_items,mobile_phone,event_timestamp,"
    "line_items.sku,line_items.product_title,line_items.price,line_items.quantity,note\n"
)
NOTE = "Cliente pediu embalagem para presente; entregar na portaria, falar com o José. "


def make(path: Path, *, rows: int | None, size: int | None, items: int, shuffled: bool) -> int:
    """Write orders until there are so many rows or bytes; gives the rows."""
    pick = random.Random(7)  # noqa: S311 -- the same file each time
    notes = f'"{NOTE * 25}"' if size else ""
    written, order = 0, 0
    pool: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        file.write(HEADER)
        while (rows is not None and written + len(pool) < rows) or (
            size is not None and file.tell() < size
        ):
            order += 1
            who = pick.randrange(10**6)
            day = f"{1 + order % 28:02}/{1 + order % 12:02}/2026 {order % 24:02}:{order % 60:02}:00"
            for item in range(items):
                price = 5 + who % 900
                pool.append(
                    f'c{who}@exemplo.com.br,P-{order:09},BRL,"{price * items},50",{items},'
                    f"(11) 9{80_000_000 + who},"
                    f'{day},S-{item}-{who % 999},Camiseta nº {item},"{price},50",1,{notes}\n'
                )
            if len(pool) > (500_000 if shuffled else 10_000):
                written += _flush(pool, file, pick, shuffled=shuffled)
        written += _flush(pool, file, pick, shuffled=shuffled)
    return written


def _flush(pool: list[str], file, pick: random.Random, *, shuffled: bool) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    if shuffled:
        pick.shuffle(pool)
    file.writelines(pool)
    count = len(pool)
    pool.clear()
    return count


def measure(path: Path, folder: Path) -> tuple[int, float, float]:
    """Run `check` in a process of its own; gives exit code, seconds and peak MB."""
    began = time.monotonic()
    words = [
        "check",
        str(path),
        "--type",
        "ECOMMERCE_ORDER_PLACED",
        "--run-dir",
        str(folder / "run"),
        "--json",
    ]
    program = "from rd_import.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words], stdout=subprocess.DEVNULL, check=False
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return done.returncode, time.monotonic() - began, peak


def main() -> None:
    """Make a file, check it, and say whether the law holds."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--rows", type=lambda text: int(text.replace("_", "")))
    words.add_argument("--bytes", type=lambda text: int(text.replace("_", "")), dest="size")
    words.add_argument("--items", type=int, default=1, help="rows of one order")
    words.add_argument(
        "--shuffled", action="store_true", help="rows of one order stand up to 500,000 rows apart"
    )
    words.add_argument("--folder", type=Path)
    given = words.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "orders.csv"
        rows = make(
            path, rows=given.rows, size=given.size, items=given.items, shuffled=given.shuffled
        )
        code, seconds, peak = measure(path, Path(folder))
        law = LAW_BASE_MB + rows * LAW_ROW_BYTES / 1e6
        print(
            f"| {rows:,} | {path.stat().st_size / 1e9:.2f} GB | {given.items} | {given.shuffled}"
            f" | {seconds:.0f} s | {peak:.0f} MB | {law:.0f} MB |"
        )
    sys.exit(0 if code in {0, 3} and peak <= law else 1)


if __name__ == "__main__":
    main()
