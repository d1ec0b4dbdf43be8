"""A notice as a mail and as a message in Slack; file names in it may hold anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment

from image_features.notices import Notice, Part

COLOURS = {"good": "#1a7f37", "warning": "#9a6700", "bad": "#cf222e", "neutral": "#57606a"}
SIGNS = {"good": ":white_check_mark:", "warning": ":warning:", "bad": ":x:", "neutral": ":information_source:"}
HEADER, SECTION, BLOCKS = 150, 3000, 50
"""What Slack takes: letters of a header and of a section, and blocks (https://docs.slack.dev/reference/block-kit/blocks)."""


def html(notice: Notice) -> str:
    """The body of a mail."""
    template = Environment(autoescape=True).from_string(Path(__file__).with_name("notice.html.jinja2").read_text())
    return template.render(notice=notice, colours=COLOURS)


def slack_blocks(notice: Notice) -> list[dict[str, Any]]:
    """The message in Slack's Block Kit."""
    title = f"{SIGNS[notice.tone]} {notice.title}"[:HEADER]
    links = " · ".join(f"<{url}|{word}>" for word, url in notice.links)
    parts = [_section(_mrkdwn(part, len(notice.parts) > 1)) for part in notice.parts[: BLOCKS - 2]]
    return [{"type": "header", "text": {"type": "plain_text", "text": title}}, *parts, _section(links)]


def _mrkdwn(part: Part, named: bool) -> str:
    lines = [f"*{_escaped(f'{part.partition} {part.model}'.strip())}*: {part.status}"] if named else []
    lines.append(_escaped(f"{part.message} {part.hint}".strip()))
    for check in part.checks:
        lines.append(f"• *{check.name}* {check.value} ({check.limits}): {_escaped(check.message)}")
        lines += [f"      `{_escaped(name).replace('`', chr(39))}`" for name in check.files]
    return "\n".join(lines)


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:SECTION]}}


def _escaped(text: str) -> str:
    """As Slack wants it (https://docs.slack.dev/messaging/formatting-message-text)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
