"""HTML whose every text is escaped: what is no :class:`Html` can't become markup."""

from __future__ import annotations

from html import escape

#: Elements without content and end tag.
_VOID = frozenset({"meta", "link"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | bool | None) -> Html:
    """An element. Attribute values and children that are plain text are escaped.

    A trailing underscore of an attribute's name is dropped and others become hyphens (``class_``,
    ``data_label``); ``None`` and ``False`` leave the attribute out, ``True`` gives it no value.
    """
    parts = [name]
    for key, value in attributes.items():
        spelling = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(spelling)
        elif value not in (None, False):
            parts.append(f'{spelling}="{escape(str(value))}"')
    start = f"<{' '.join(parts)}>"
    return Html(start if name in _VOID else f"{start}{join(*children)}</{name}>")


def join(*children: str) -> Html:
    """Children one after the other, plain text escaped."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))
