"""Words and their stems: what search, gates and the tier without a model mean by a term.

A name with signs in it (`1.10`, `AB-1200/Y`, `--no-cache`, `.NET`) is a term beside its parts.
Scripts that put no space between words, and Hangul, whose particles are part of the word, are
indexed by pairs of neighbouring characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import pairwise

VERSION = 4
"""Raised whenever the same text would give other terms: they are stored in indexes."""

STOP_WORDS = frozenset(
    """
    a about above after again against all also am an and any are as at be because been before
    being below between both but by can could did do does doing done down during each either else
    ever every few for from further had has have having he her here hers herself him himself his
    how however i if in into is it its itself just let like many may me might more most much must
    my myself neither no nor not of off on once one only or other our ours ourselves out over own
    per same shall she should since so some such than that the their theirs them themselves then
    there therefore these they this those though through thus to too under until up upon us very
    via was we were what when where whether which while who whom whose why will with within
    without would yet you your yours yourself yourselves
    """.split()  # noqa: SIM905 - readable as prose, not as 190 quoted strings
)
"""English function words: they tell questions apart from statements, not topics from topics."""

_ASCII_WORD = re.compile(r"[a-z]{1,2}(?:\+\+|#)|[^\W_]+(?:(?:\+\+|#|\+)(?!\w))?")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])")
_CONTRACTED = re.compile(r"(?<=\w)['\u2019](?:s|t|d|m|ll|re|ve)\b", re.IGNORECASE)
_UNSEEN = re.compile(
    "[\u00ad\u0640\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff\u20d0-\u20f0]"
)
"""Soft hyphens, zero widths, marks of direction and variation: nobody sees them part a word."""
_POINTS = re.compile(
    "[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8]"
)
"""Vowel points of Hebrew and Arabic, which most texts leave out."""
_ACCENTS = re.compile(
    "(?<=[a-z\u00df-\u024f\u0370-\u03ff])[\u0300-\u036f]+|[\u0300\u0301]|(?<=\u0435)\u0308"
)
"""Accents that people leave out: on Latin and Greek letters, stress on others, dots on a Cyrillic
e. Elsewhere a mark makes another letter."""
_BROKEN = re.compile(r"(?<=[^\W\d_])[-\u2010\ufffe\x02][^\S\n]*\r?\n[^\S\n]*(?=[^\W\d_A-Z])")
"""A word's hyphen at the end of a line."""
_HALVES = re.compile(r"([^\W\d_]+)-[^\S\n]*\r?\n[^\S\n]*([^\W\d_]+)")
"""The same with what it parts: "long-term" has its hyphen anywhere."""

_JOINTS = r"./:+&_\-\u2010-\u2015"
_NUMBERED = re.compile(rf"(?<!\w)[^\W_]++(?:[{_JOINTS}]++[^\W_]++)+")
_SIGNED = re.compile(
    r"(?<![\w.+-])(?:--[A-Za-z]\w*(?:-\w+)*|-[A-Za-z](?!\w)|[.][A-Za-z]\w*)|"
    r"(?<![\w*])[A-Z]{1,2}[*\u2212-](?![\w*>-])"
)
_VERSION = re.compile(r"^[vV](?=\d)")
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"))
_DATED = re.compile(
    r"\d{4}([-/.])\d\d?\1\d\d?|\d\d?([-/.])\d\d?\2(?:\d\d)?\d\d(?<!\.\d\d)|\d?\d(?::\d\d)+"
)
"""Dates and times of day, which people write in other ways too."""
_LETTERED = re.compile(r"\b([A-Za-z][a-z]+):? (A|I)(?![\w'\u2019+*-])")
"""A letter as a name, as in "hall A" and "World War I"."""
MAX_NAME_CHARACTERS = 40
LONE = 0.1
"""What a character alone between others counts for: texts have it within pairs."""

_RUNS = {
    "han": "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u3005",
    "hiragana": "\u3041-\u309f",
    "katakana": "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff",
    "hangul": "\uac00-\ud7a3",
    "southeast": "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u0f00-\u0fff",
}
"""Scripts whose words no space parts, or not from their particles, each cut apart from others."""
_ASKED = re.compile(
    unicodedata.normalize(
        "NFKC",
        "有?多(?=[高长長久大远遠深重宽寬快])|什么|什麼|怎么|怎麼|怎样|为什|為什|有?多少|哪|谁|誰|几|幾|吗|嗎|呢|的|是|了|在|于|於|何|"
        "いつ|どこ|どれ|どの|だれ|なぜ|いくら|いくつ|(?:です|ます)か?|(?:で|ま)した|"
        "[はがをにへのもでとか](?![ぁ-ゟ])|"
        "언제|어디|누구|무엇|얼마|어떻게|왜|(?:입|습)니(?:까|다)|나요|"
        "(?<=[가-힣])(?:은|는|이|가|을|를|에서|에|의|도|로)(?![가-힣])|"
        "อะไร|ใคร|ที่ไหน|เมื่อไร|เมื่อไหร่|เท่าไร|เท่าไหร่|ทำไม|อย่างไร|กี่|ใด(?![ก-ฮ])|"
        "ເທົ່າໃດ|ເມື່ອໃດ|ແນວໃດ|ໃຜ|ຫຍັງ|ຈັກ|ໃດ|ប៉ុន្មាន|ហេតុអ្វី|អ្វី|នរណា|ពេលណា|យ៉ាងណា|ណា",
    )
)
"""Words that ask, copulas and particles of the languages of these scripts, as `STOP_WORDS`."""


_KANA = _RUNS["hiragana"]
_WORDLIKE = re.compile(
    f"[{_RUNS['han']}]+|[{_RUNS['katakana']}]+|(?<![{_KANA}])[{_KANA}](?![{_KANA}])"
)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Return what a word, a run of one spaceless script and one of its characters look like.

    A mark belongs to the letter before it: in Thai and in Indic scripts it is a vowel.
    """
    marks = "".join(c for c in map(chr, range(0x300, 0xFFFF)) if unicodedata.category(c)[0] == "M")
    mark = f"[{re.escape(marks)}]"
    runs = "|".join(f"(?:(?=[^\\W_])[{run}]{mark}*)+" for run in _RUNS.values())
    bare = "".join(_RUNS.values())
    word = rf"[a-z]{{1,2}}(?:\+\+|#)|(?:(?![{bare}])[^\W_]{mark}*)+(?:(?:\+\+|#|\+)(?!\w))?|{runs}"
    return re.compile(word), re.compile(runs), re.compile(f".{mark}*", re.DOTALL)


def words(text: str) -> list[str]:
    """Return the words of `text` in order, case folded, and accents where they may be left out.

    Underscores, punctuation and camelCase humps part words, so that `max_tokens`, `maxTokens`
    and "max tokens" are the same two. Capitals behind a digit part nothing: BM25S is bm25s. The
    signs of `C++` and `C#` are part of the word; a word that a line's end breaks is whole.
    """
    if text.isascii():
        return _ASCII_WORD.findall(_fold(text))
    word, run, _ = _patterns()
    found = word.findall(_fold(text))
    return [part for each in found for part in (_pairs(each) if run.match(each) else (each,))]


def terms(text: str) -> list[str]:
    """Return what the search indexes of `text`: its words, stemmed, without stop words.

    The halves of a word that a line's end breaks and the names with signs stand after the words.
    """
    halves = _HALVES.findall(text) if "\n" in text else ()
    plain = (*words(text), *(word for pair in halves for word in words(" ".join(pair))))
    return [_stem(word) for word in plain if word not in STOP_WORDS] + names(text)


def shares(text: str) -> dict[str, float]:
    """Return what a pair of neighbouring characters counts for of the words that its run may be.

    A run of Chinese characters or of Katakana between other signs is taken for one word, and a
    Hiragana alone for a particle; runs of other scripts have endings, or hold a whole sentence.
    """
    runs = [] if text.isascii() else _WORDLIKE.findall(_fold(text))
    counted = {_stem(pair): 1 / len(pairs) for pairs in map(_pairs, runs) for pair in pairs}
    return {pair: n if len(pair) > 1 else LONE for pair, n in counted.items()}


def names(text: str) -> list[str]:
    """Return the names that signs tell apart: versions, part numbers, flags, grades."""
    signed = (match.group() for match in _SIGNED.finditer(text))
    found = [name if len(name) == 2 else name.lower() for name in signed]
    numbered = (match.group() for match in _NUMBERED.finditer(text))
    found += [
        _VERSION.sub("", name).lower()
        for name in numbered
        if len(name) <= MAX_NAME_CHARACTERS and any(map(str.isdigit, name))
    ]
    lettered = (match.groups() for match in _LETTERED.finditer(text))
    found += [f"={letter}" for word, letter in lettered if _is_named(word, letter)]
    return [name.translate(_DASHES) for name in found]


def parts(name: str) -> list[str]:
    """Return the terms by which other spellings hold a name with signs: "AB 1200 Y"."""
    return [_stem(word) for word in words(name) if word not in STOP_WORDS]


def is_dated(name: str) -> bool:
    """Tell whether a name with signs is a date or a time of day."""
    return _DATED.fullmatch(name) is not None


def _is_named(word: str, letter: str) -> bool:
    return word.lower() not in STOP_WORDS and (letter == "A" or word[0].isupper())


def _pairs(run: str) -> list[str]:
    """Return a run's pairs of neighbouring characters, its only character where it has one."""
    characters = _patterns()[2].findall(run)
    return ["".join(pair) for pair in pairwise(characters)] or characters


def _fold(text: str) -> str:
    text = _HUMP.sub(" ", _CONTRACTED.sub("", text))
    if "\n" in text:
        text = _BROKEN.sub("", text)
    if text.isascii():
        return text.lower()
    # Compatibility letters have a lower case only once they are decomposed, and the other way.
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    text = _ACCENTS.sub("", _POINTS.sub("", _UNSEEN.sub("", text)))
    return _ASKED.sub(" ", unicodedata.normalize("NFC", text))


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return _stemmer()(_irregular().get(word, word))


_IRREGULAR = """
    become became; begin began begun; bite bitten; blow blew blown; break broke broken;
    bring brought; build built; burn burnt; buy bought; catch caught; choose chose chosen;
    come came; draw drew drawn; drink drank drunk; drive drove driven; eat ate eaten;
    fall fell fallen; feed fed; feel felt; fight fought; fly flew flown; forget forgot forgotten;
    freeze froze frozen; give gave given; go went gone; grow grew grown; hang hung;
    hide hid hidden; hold held; keep kept; know knew known; lay laid; lead led; lend lent;
    lose lost; make made; mean meant; meet met; pay paid; ride rode ridden; ring rang rung;
    run ran; say said; see seen; sell sold; send sent; shake shook shaken; shoot shot; show shown;
    sing sang sung; sink sank sunk; sit sat; sleep slept; speak spoke spoken; spend spent;
    stand stood; steal stole stolen; strike struck; sweep swept; swim swam swum; take took taken;
    teach taught; tell told; think thought; throw threw thrown; understand understood; wake woke;
    wear wore worn; weave wove woven; win won; write wrote written
"""
"""English verbs, whose past says the same as they do."""


@cache
def _irregular() -> dict[str, str]:
    verbs = (each.split() for each in _IRREGULAR.split(";"))
    return {form: verb for verb, *forms in verbs for form in forms}


@cache
def _stemmer() -> Callable[[str], str]:
    from Stemmer import Stemmer

    # Its own cache is off: it is not safe where threads share a stemmer, and `_stem` has one.
    stem: Callable[[str], str] = Stemmer("english", 0).stemWord
    return stem
