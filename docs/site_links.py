"""Links of the site's pages to files outside docs/: each becomes a page or a copy within the site, so that all lead on.

A Markdown file becomes a page, with its own links followed likewise; another text a page with its content; a folder a
page that lists its files; anything else is copied. All of them lie below `repository/`.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<=\]\()(?!#|[a-z]+:)([^)\s#]+)")  # the target of a Markdown link or image, without its anchor
TEXTS = {".yaml": "yaml", ".py": "python", ".smk": "python"} | dict.fromkeys((".txt", ".json", ".csv", ""), "text")
LONGEST = 200_000  # characters of a text that is shown; a longer one is copied


def place_of(path: Path) -> str:
    """Where a file or folder of the repository lies among the site's sources."""
    name = path.relative_to(ROOT).as_posix()
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if path.is_dir():
        return f"repository/{name}/index.md"
    return f"repository/{name}.md" if is_shown(path) else f"repository/{name}"


def is_shown(path: Path) -> bool:
    """Whether a file is shown as a page with its text."""
    return path.suffix in TEXTS and path.stat().st_size <= LONGEST


def targets(text: str, folder: Path) -> list[Path]:
    """The files and folders of the repository that a text in `folder` links to."""
    found = [(folder / target).resolve() for target in LINK.findall(text)]
    return [path for path in found if path.exists() and path.is_relative_to(ROOT)]


def page_of(path: Path) -> str:
    """The Markdown of the page of a file or a folder."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        return f"# {name}\n\n" + "\n".join(f"- `{item.name}`" for item in sorted(path.iterdir()))
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    return f"# {name}\n\n````{TEXTS[path.suffix]}\n{text}\n````\n"


def on_files(files, config):
    """Add what the pages link to outside docs/."""
    waiting = sorted((ROOT / "docs").glob("*.md"))
    seen = set(waiting)
    while waiting:
        path = waiting.pop(0)
        if path.suffix != ".md":
            continue
        for target in targets(path.read_text(encoding="utf-8"), path.parent):
            if target in seen:
                continue
            seen.add(target)
            waiting.append(target)
            if target.is_relative_to(ROOT / "docs"):
                continue
            place = place_of(target)
            if place.endswith(".md"):
                files.append(File.generated(config, place, content=page_of(target)))
            else:
                files.append(File.generated(config, place, abs_src_path=str(target)))
    return files


def on_page_markdown(markdown: str, page, **_) -> str:
    """Turn a page's links to files of the repository into links within the site."""
    source = page.file.src_uri
    origin = source.removeprefix("repository/")
    folder = (ROOT if source != origin else ROOT / "docs") / posixpath.dirname(origin)
    if source != origin and not (ROOT / origin).is_file():
        return markdown  # of a text or a folder: no links

    def turned(found: re.Match) -> str:
        target = (folder / found[1]).resolve()
        if not (target.exists() and target.is_relative_to(ROOT)):
            return found[1]  # the site's own check says that it leads nowhere
        return posixpath.relpath(place_of(target), posixpath.dirname(source) or ".")

    return LINK.sub(turned, markdown)
