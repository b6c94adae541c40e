"""Which encoding a text is in: by its mark, by proof, or by which reading makes words.

Single-byte encodings cannot be proved: any bytes are text in each of them. What tells them apart is
that only the right one gives words of the languages that Brazilian shops export in. Where none
does, charset-normalizer names what it would be, and a person is asked.
"""

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rd_import.errors import ExportError, JobError
from rd_import.values import Finding

BOMS: Final = (  # UTF-32's mark begins with UTF-16's, so it is looked for first
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
SINGLE_BYTE: Final = ("cp1252", "mac-roman", "cp850")
"""Western encodings, the likeliest first. latin-1 is cp1252 without its typographic marks."""

SAMPLE_CHARACTERS: Final = 20_000  # non-ASCII ones; more change no verdict
PLAUSIBLE: Final = (
    0.5  # mean weight of the accents under the right reading; wrong ones stay below 0.2
)
CLEARLY: Final = 2.0  # the best reading must be this much better than the next
USUAL: Final = frozenset("áâãàçéêíóôõúüñÁÂÃÀÇÉÊÍÓÔÕÚÜÑºª")  # Portuguese and Spanish
OTHER_LETTERS: Final = frozenset("äëïîöûùèìòåæøœßÿÄËÏÎÖÛÙÈÌÒÅÆØŒ")
SIGNS: Final = frozenset("°–—‘’“”…€£¥§®©™•·«»¡¿×÷¼½¾²³¹\u00a0")
LONGEST_RUN: Final = 3  # of marks and accents, such as `—“É`
MOST_ADVISED: Final = 4
WRONG_NULS: Final = (
    0.2  # share of NULs at even or odd places from which a text is UTF-16 without a mark
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """What bytes are to be decoded with.

    `settled` is False where only ASCII was seen yet, so that the first other byte decides.
    """

    codec: str
    bom: bytes
    finding: Finding
    settled: bool


def find_encoding(head: bytes, path: str, *, stated: str | None) -> Encoding:
    """Tell a file's encoding from its first bytes; what the user says wins.

    Raises:
        JobError: The named encoding does not exist.
        ExportError: The file is no text.
    """
    bom, marked = next(((mark, name) for mark, name in BOMS if head.startswith(mark)), (b"", None))
    if stated:
        codec = known_codec(stated)
        return Encoding(
            codec,
            bom if codec == marked else b"",
            _finding(codec, "stated", "stated"),
            settled=True,
        )
    if marked:
        return Encoding(marked, bom, _finding(marked, "certain", "by_mark"), settled=True)
    wide = _wide(head)
    if wide:
        return Encoding(wide, b"", _finding(wide, "likely", "by_nuls"), settled=True)
    if head.count(0) > max(len(head) // 1000, 2):
        raise ExportError("binary_file", path=path)
    if head.isascii():
        return Encoding("utf-8", b"", _finding("utf-8", "certain", "ascii_only"), settled=False)
    return narrow_encoding(head)


def narrow_encoding(sample: bytes) -> Encoding:
    """Tell UTF-8 and the single-byte encodings apart in a sample that is not all ASCII."""
    text = sample.decode("utf-8", "surrogateescape")
    bad = sum("\udc80" <= c <= "\udcff" for c in text)
    good = sum(c > "\x7f" for c in text) - bad
    if good > bad:
        how = "utf8_valid" if bad == 0 else "utf8_mostly"
        return Encoding(
            "utf-8", b"", _finding("utf-8", "certain" if bad == 0 else "likely", how), settled=True
        )
    scores = {codec: _score(sample, codec) for codec in SINGLE_BYTE}
    first, second = sorted(scores.values(), reverse=True)[:2]
    best = max(scores, key=lambda codec: scores[codec])
    if first >= PLAUSIBLE and first >= CLEARLY * second:
        return Encoding(best, b"", _finding(best, "likely", "by_words"), settled=True)
    codec = best if first >= PLAUSIBLE else SINGLE_BYTE[0]
    readings = tuple(dict.fromkeys((codec, *_advised(sample))))
    return Encoding(
        codec, b"", _finding(codec, "open", "no_words", readings=readings), settled=True
    )


def known_codec(name: str) -> str:
    """Give a codec's own name.

    Raises:
        JobError: There is no such codec, or it is none for text.
    """
    try:
        codec = codecs.lookup(name).name
        "".encode(codec)
    except (LookupError, UnicodeError) as error:
        raise JobError("unknown_encoding", value=name) from error
    return codec


def _finding(value: str, confidence: str, how: str, readings: tuple[str, ...] = ()) -> Finding:
    return Finding("encoding", value, confidence, how, "--encoding", readings=readings)


def _wide(head: bytes) -> str | None:
    """Tell UTF-16 without a mark: ASCII in it has a NUL at every other place."""
    if len(head) % 2:
        return None
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = max(len(head) // 2, 1)
    for codec, nuls, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if nuls > WRONG_NULS * half and others <= nuls // 20:
            try:
                codecs.getincrementaldecoder(codec)().decode(head)
            except UnicodeDecodeError:
                return None
            return codec
    return None


def _score(sample: bytes, codec: str) -> float:
    """Give the mean weight of the non-ASCII characters: 1 a usual accent, 0 nonsense."""
    text = sample.decode(codec, "replace")
    found = 0
    total = 0.0
    for run in re.finditer(r"[^\x00-\x7f]+", text):
        found += len(run[0])
        total += _weight(
            run[0], text[max(run.start() - 1, 0) : run.start()], text[run.end() : run.end() + 1]
        )
        if found >= SAMPLE_CHARACTERS:
            break
    return total / found if found else 0.0


def _weight(run: str, before: str, after: str) -> float:
    if len(run) > LONGEST_RUN or re.search(
        r"[^\W\d_]{3}", run
    ):  # no such language has three accents in a row
        return 0.0
    if any(c.isupper() for c in run) and (
        before.islower() or (after.islower() and before.isalpha())
    ):
        return 0.0
    within = before.isalpha() and after.isalpha()
    return sum(
        _WEIGHTS.get(c, 0.0) if c.isalpha() or c in "’\u00a0" or not within else 0.0 for c in run
    )


_WEIGHTS: Final[Mapping[str, float]] = {
    **dict.fromkeys(SIGNS, 0.8),
    **dict.fromkeys(OTHER_LETTERS, 0.3),
    **dict.fromkeys(USUAL, 1.0),
}


def _advised(sample: bytes) -> list[str]:
    from charset_normalizer import from_bytes

    return [one.encoding.replace("_", "-") for one in from_bytes(sample[:65536])][:MOST_ADVISED]
