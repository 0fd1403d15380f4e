"""An explanation as one page for a browser, with its style and its program in it."""

import html
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ai3.explanation.explanation import Explanation

TEMPLATE = Path(__file__).with_name("page.html")


def page(of: "Explanation") -> str:
    # No text of the data may end the element that holds it.
    data = json.dumps(json.loads(of.json()), separators=(",", ":")).replace("<", "\\u003c")
    text = TEMPLATE.read_text(encoding="utf-8")
    title = html.escape(of.title or "network")
    before, _, after = text.replace("{{title}}", title).partition("{{data}}")
    return before + data + after
