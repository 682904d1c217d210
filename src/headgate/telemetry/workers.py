"""The metrics of several processes as one page: every series says whose it is (`worker="2"`), none is summed.

A sum over workers would fall whenever one of them starts anew, and a counter that falls is read as one that began again:
the sum of all would be counted a second time. Prometheus sums over a label without that."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SERIES = re.compile(rb"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+(?: [^ ]+)?)$")


def merged(pages: Mapping[str, bytes]) -> bytes:
    """`pages`: worker -> its metrics in the text format, version 0.0.4. Families stay whole, in the order in which they
    are met; what is no line of the format is left out."""
    families: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
    for worker, page in pages.items():
        heads: list[bytes] = []
        series: list[bytes] = []
        for line in page.splitlines():
            if line.startswith(b"# HELP "):
                heads, series = families.setdefault(line.split(b" ", 3)[2], ([], []))
            if line.startswith(b"#"):
                if line not in heads:
                    heads.append(line)
            elif (found := _SERIES.match(line)) is not None:
                name, labels, value = found.groups()
                own = b'worker="%b"' % worker.encode()
                series.append(b"%b{%b} %b" % (name, own if not labels else own + b"," + labels, value))
    lines = [line for heads, series in families.values() for line in (*heads, *series)]
    return b"\n".join(lines) + b"\n" if lines else b""
