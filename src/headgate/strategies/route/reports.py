"""Whether a conversation goes on with a report that the code it was given does not run or fails its tests.

Looked for after the last answer only, and only where that answer held a block of code: a stack trace by which somebody
begins says nothing of any answer. What a tool gave back counts as what the user wrote.
"""

from __future__ import annotations

import re

from headgate.core.chat import ChatRequest, Message, Text, ToolResult, text_of

READ = 6000
"""Characters of each message that are looked at, from its beginning and from its end: reports end with their summary."""
_FAILURE = re.compile(
    r"Traceback \(most recent call last\)"  # Python
    r"|^(?:FAILED|ERROR) \S+\.py(?:::| )|\b[1-9]\d* (?:failed|failing)\b"  # pytest; Jest, Mocha, Vitest
    r"|^--- FAIL: |^FAIL\s+\S+"  # Go
    r"|test result: FAILED|panicked at |^error\[E\d{4}\]"  # Rust
    r"|\bFailures: [1-9]|\bErrors: [1-9]|Exception in thread "  # JUnit, Java
    r"|^\w*AssertionError\b|^Uncaught \w*Error\b|^(?:\w+\.)*\w*(?:Error|Exception): .+\n\s+at "  # Node, browsers, .NET
    r"|\bnpm ERR! |\bBUILD FAILED\b|Segmentation fault|undefined reference to ",
    re.MULTILINE,
)


def reports_failure(content: ChatRequest) -> bool:
    """False wherever that cannot be told."""
    messages = content.messages
    answered = next((at for at in range(len(messages) - 1, -1, -1) if messages[at].role == "assistant"), None)
    if answered is None or "```" not in text_of(messages[answered].content):
        return False
    return any(_FAILURE.search(text) is not None for message in messages[answered + 1 :] for text in _ends(message))


def _ends(message: Message) -> list[str]:
    texts = [part.text for part in message.content if isinstance(part, Text)]
    texts += [text_of(part.content) for part in message.content if isinstance(part, ToolResult)]
    return [end for text in texts for end in ((text,) if len(text) <= 2 * READ else (text[:READ], text[-READ:]))]
