"""Reading the constitution's Markdown: a title, a preamble, and the articles 1, 2, 3 ... without a gap.

Fenced `cedar` blocks are rules, fenced `toml` blocks numbers; an article without a block says "Judged by the crown."
Whatever is not understood completely is refused completely, and so is what a reader could not see.

Digest. The document's digest is SHA-256 over its canonical bytes: the text in Unicode normalisation form C, encoded as
UTF-8 without a byte order mark; each CR LF and each lone CR replaced by LF; spaces and tabs at the end of each line
removed; empty lines at the end of the text removed; exactly one LF at the very end.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from operations.canonical import Digest, Record, sha256
from operations.errors import ConstitutionInvalid

MAX_BYTES: Final = 256 * 1024
"""The longest document that is read."""

JUDGED: Final = "Judged by the crown."
"""What an article says that code cannot enforce."""

_HEADING: Final = re.compile(r"## Article ([1-9][0-9]{0,3}): (\S.*)", re.ASCII)
_MARKUP: Final = re.compile(r"<[A-Za-z/!?]")
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the number of its article and the line of its first line in the document."""

    article: int
    line: int
    text: str


def canonical_text(document: str | bytes) -> str:
    """The document's canonical form, over which its digest goes (see the module).

    Raises:
        ConstitutionInvalid: it is too long or not UTF-8.
    """
    if len(document) > MAX_BYTES:
        raise ConstitutionInvalid(f"The document is longer than {MAX_BYTES} bytes.")
    try:
        text = document.decode() if isinstance(document, bytes) else document.encode().decode()
    except UnicodeError as error:
        raise ConstitutionInvalid("The document is not UTF-8.") from error
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    return "\n".join(line.rstrip(" \t") for line in text.split("\n")).rstrip("\n") + "\n"


def document_digest(document: str | bytes) -> Digest:
    """SHA-256 over the document's canonical bytes, in lower-case hexadecimal.

    Raises:
        ConstitutionInvalid: it is too long or not UTF-8.
    """
    return sha256(canonical_text(document).encode())


class Article(Record):
    """One numbered article.

    Attributes:
        number: from 1, without gaps.
        title: what stands behind the number.
        text: the whole article in Markdown, heading and blocks included.
        prose: the article without its blocks; what models are told.
        enforced: whether code enforces part of it.
    """

    number: int
    title: str
    text: str
    prose: str
    enforced: bool

    @property
    def id(self) -> str:
        """`article-N`."""
        return f"article-{self.number}"


class Reading:
    """One pass over the canonical text: articles and blocks, each with its place.

    Attributes:
        cedar: the blocks with rules.
        toml: the blocks with numbers.

    Raises:
        ConstitutionInvalid: with the article and the line where there is one.
    """

    def __init__(self, text: str) -> None:
        self.cedar: list[Block] = []
        self.toml: list[Block] = []
        self._titles: list[tuple[int, str]] = []
        self._bodies: list[list[str]] = [[]]
        self._prose: list[list[str]] = [[]]
        self._fence: tuple[str, int, list[str]] | None = None
        for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
            self._read(number, line)
        if self._fence:
            raise self._invalid(self._fence[1], "the block is never closed")
        if not self._titles:
            raise ConstitutionInvalid("The document has no articles.")

    @property
    def preamble(self) -> str:
        """What stands between the title and the first article."""
        return "\n".join(self._prose[0]).strip()

    def articles(self) -> tuple[Article, ...]:
        """The articles in their order.

        Raises:
            ConstitutionInvalid: one has no prose, or neither a block nor the words "Judged by the crown."
        """
        enforced = {block.article for block in (*self.cedar, *self.toml)}
        found = []
        for number, (line, title) in enumerate(self._titles, start=1):
            prose = re.sub(r"\n{3,}", "\n\n", "\n".join(self._prose[number])).strip()
            if not prose:
                raise ConstitutionInvalid(f"Article {number}, line {line}: the article has no prose")
            if number not in enforced and JUDGED not in " ".join(prose.split()):
                raise ConstitutionInvalid(
                    f'Article {number}, line {line}: without an enforced block it must say "{JUDGED}"'
                )
            body = "\n".join(self._bodies[number]).strip()
            found.append(Article(number=number, title=title, text=body, prose=prose, enforced=number in enforced))
        return tuple(found)

    def _invalid(self, line: int, why: str) -> ConstitutionInvalid:
        article = f"Article {len(self._titles)}, line" if self._titles else "Line"
        return ConstitutionInvalid(f"{article} {line}: {why}")

    def _read(self, number: int, line: str) -> None:
        if any(unicodedata.category(each) in _HIDDEN and each != " " for each in line):
            raise self._invalid(number, "there is a character that cannot be seen")
        if self._fence:
            self._read_in_block(number, line)
        elif line.startswith("#"):
            self._read_heading(number, line)
        elif "```" in line or "~~~" in line:
            self._open(number, line)
        elif number == 1:
            raise self._invalid(number, "the document starts with its title: # ...")
        elif line.startswith("    ") or _MARKUP.search(line):
            raise self._invalid(number, "neither indented code nor HTML has a place here")
        else:
            self._bodies[-1].append(line)
            self._prose[-1].append(line)

    def _read_heading(self, number: int, line: str) -> None:
        if number == 1 and re.fullmatch(r"# \S.*", line):
            return
        heading = _HEADING.fullmatch(line)
        if not heading:
            raise self._invalid(number, "the only headings are: ## Article N: Title")
        if int(heading[1]) != len(self._titles) + 1:
            raise self._invalid(number, f"article {len(self._titles) + 1} is missing before article {heading[1]}")
        self._titles.append((number, heading[2]))
        self._bodies.append([line])
        self._prose.append([])

    def _open(self, number: int, line: str) -> None:
        if line not in {"```cedar", "```toml"}:
            raise self._invalid(number, "a block starts with ```cedar or ```toml, and nothing else")
        if not self._titles:
            raise self._invalid(number, "a block belongs to an article")
        self._bodies[-1].append(line)
        self._fence = (line.removeprefix("```"), number, [])

    def _read_in_block(self, number: int, line: str) -> None:
        if self._fence is None:
            return
        language, start, lines = self._fence
        self._bodies[-1].append(line)
        if line == "```":
            block = Block(article=len(self._titles), line=start + 1, text="\n".join(lines))
            (self.cedar if language == "cedar" else self.toml).append(block)
            self._fence = None
        elif "```" in line or "~~~" in line:
            raise self._invalid(number, "a block ends with ``` alone on its line")
        else:
            lines.append(line)
