"""The report as one HTML page without links to anything outside."""

import html
import re

import plots
from figures import size_name

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;font-size:13px;margin:1em 0;display:block;overflow-x:auto}
td,th{border:1px solid #ccc;padding:3px 8px;text-align:left;white-space:nowrap}
th{background:#f4f4f4} code,pre{font:13px/1.4 ui-monospace,monospace;background:#f4f4f4}
td code{white-space:normal} pre{padding:1em;overflow-x:auto}
svg{width:100%;max-width:860px} svg text{font:12px system-ui,sans-serif}
svg .t{font-weight:600;font-size:14px} svg .m{text-anchor:middle} svg .l{text-anchor:end} svg .g{stroke:#ddd;fill:none}
.legend span{margin-right:1em} .legend i{display:inline-block;width:24px;margin-right:5px;vertical-align:middle}
"""


def render(results, made):
    """The page of `made`, a list of (title, Markdown), with the plots behind the verdicts."""
    title = f"Heddle and Apache Kafka {results.facts['kafka_version']}"
    parts = []
    for name, text in made:
        parts.append(f"<h2>{html.escape(name)}</h2>\n{markdown(text)}")
        if name == "Where Kafka wins":
            parts.append(f"<h2>Latency against rate</h2>\n{_plots(results)}")
    body = "\n".join(parts)
    return (f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
            f"<style>{STYLE}</style>\n<h1>{html.escape(title)}</h1>\n{body}\n</html>\n")  # fmt: skip


def _plots(results):
    sizes = sorted({key[2] for key in results.keys}, key=lambda size: (size != 1024, size))
    drawn = []
    for record_bytes in sizes:
        for durability, partitions in results.blocks:
            many = "partition" if partitions == 1 else "partitions"
            title = f"{durability}, {partitions:,} {many}, records of {size_name(record_bytes)}"
            drawn.append(plots.latency(results, (durability, partitions), record_bytes, title))
    return "\n".join(drawn)


def markdown(text):
    """HTML of what summary.py writes: tables, lists of two levels, fenced code, paragraphs, bold, code."""
    blocks = []
    for part in re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL):
        blocks += [part] if part.startswith("```") else part.split("\n\n")
    return "\n".join(_block(block.strip("\n")) for block in blocks if block.strip())


def _block(block):
    lines = block.split("\n")
    if block.startswith("```"):
        return f"<pre>{html.escape(chr(10).join(lines[1:-1]))}</pre>"
    if block.startswith("|"):
        return _table(lines)
    if block.startswith("- "):
        items = (f'<li style="margin-left:{2 if line.startswith("  ") else 0}em">{_inline(line.strip()[2:])}</li>' for line in lines)
        return f"<ul>{''.join(items)}</ul>"
    return f"<p>{_inline(block)}</p>"


def _table(lines):
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    head = "".join(f"<th>{_inline(cell)}</th>" for cell in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{_inline(cell)}</td>' for cell in row)}</tr>" for row in rows[2:])
    return f"<table><tr>{head}</tr>{body}</table>"


def _inline(text):
    text = html.escape(text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", text)
