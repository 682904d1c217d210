"""What kinds of work a request may ask for: the labels that classifiers give and rules are written for."""

from __future__ import annotations

LABELS = ("code", "summary", "creative", "analysis", "translation", "math", "qa", "chat", "extraction")
UNKNOWN = "unknown"
