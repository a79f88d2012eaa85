"""Text for LaTeX: every character as something that pdflatex compiles with its usual fonts."""

from __future__ import annotations

import unicodedata

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "ε": r"$\varepsilon$",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "…": r"\dots{}",
    "†": r"$^\dagger$",
    "∞": r"$\infty$",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
}
"""Characters that LaTeX reads otherwise, or that pdflatex has not in its fonts."""

_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
"""Combining accents, and LaTeX's commands for them."""

_GREEK = frozenset("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ")
"""Letters whose commands are their names."""

_AS_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))
"""Greek letters that LaTeX writes as the Latin ones that look like them."""


def latex_text(text: str) -> str:
    """Text with everything escaped that LaTeX would read otherwise.

    Accents and Greek letters become commands. Characters that pdflatex cannot show without further
    packages, such as Chinese ones, become their code, such as U+4E2D.
    """
    return "".join(map(_as_latex, unicodedata.normalize("NFC", text)))


def _as_latex(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii():
        return character if character.isprintable() else " "
    return _greek(character) or _accented(character) or f"U+{ord(character):04X}"


def _greek(character: str) -> str:
    """A Greek letter without accents; empty: it is none."""
    if character not in _GREEK:
        return _AS_LATIN.get(character, "")
    name = unicodedata.name(character).rpartition(" ")[2].replace("LAMDA", "LAMBDA")
    return f"$\\{name.lower() if character.islower() else name.capitalize()}$"


def _accented(character: str) -> str:
    """A Latin letter with one accent; empty: it is none."""
    parts = unicodedata.normalize("NFD", character)
    letter, accent = parts[0], parts[1:]
    if not letter.isascii() or accent not in _ACCENTS:
        return ""
    return f"\\{_ACCENTS[accent]}{{{letter}}}"
