#!/usr/bin/env python3
"""Makes tables, verdicts and the page of the JSON of the cells: `summary.py RESULTS`.

Writes summary.md and report.html there, and prints the verdicts. In README.md, when the results are those of this report,
it replaces what is between the two marks.
"""

import pathlib
import sys

import page
import verdicts
from figures import Results, load_name, rate_name, size_name, spread

HERE = pathlib.Path(__file__).resolve().parent
MARKS = ("<!-- figures: made by summary.py -->", "<!-- end of figures -->")


def verdict_text(results):
    lines = []
    for verdict in verdicts.all_verdicts(results):
        lines.append(f"- {verdict.text()}")
        for ratio in verdict.missed:
            notes = [note for note, holds in (("the turns overlap", ratio.overlaps), ("Heddle refused batches", ratio.failed)) if holds]
            note = f" ({', '.join(notes)})" if notes else ""
            lines.append(
                f"  - missed: {ratio.name}: {ratio.heddle:,.0f} against {ratio.kafka:,.0f} {verdict.unit}, "
                f"{ratio.value:.2f} ×{note}"
            )
    return "\n".join(lines)


def kafka_text(results):
    found = verdicts.kafka_ahead(results)
    if not found:
        return "In no load that was measured. What was not measured is under limits."
    lines = ["| figure | load | Heddle | Kafka | unit | the turns overlap |", "| --- | --- | --- | --- | --- | --- |"]
    for figure, unit, ratio in found:
        overlap = "yes" if ratio.overlaps else "no"
        lines.append(f"| {figure} | {ratio.name} | {ratio.heddle:,.1f} | {ratio.kafka:,.1f} | {unit} | {overlap} |")
    return "\n".join(lines)


def latency_table(results, block):
    lines = [
        "| record | requests | rate | broker | p50 µs | p99 µs | p99.9 µs | achieved/s | CPU s / million | sustained |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key in results.keys:
        if key[:2] != block or key[-1] == 0:
            continue
        for broker, load in zip(("Heddle", "Kafka"), results.pair(key)):
            if not load:
                continue
            figures = [spread(load.values(name)) for name in ("p50_us", "p99_us", "p999_us")]
            achieved = f"{load.median('rate_achieved'):,.0f}"
            cpu = spread(load.values("cpu_s_per_million"), 1)
            state = "yes" if load.state == "ok" else load.state
            cells = [size_name(key[2]), key[3], rate_name(key[4]), broker, *figures, achieved, cpu, state]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def saturation_table(results):
    lines = [
        "| durability | partitions | record | requests | Heddle records/s | Kafka records/s | ratio | Heddle MB/s "
        "| Kafka MB/s | Heddle CPU s / million | Kafka CPU s / million |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key in results.keys:
        heddle, kafka = results.pair(key)
        if key[-1] != 0 or not heddle or not kafka:
            continue
        rates = [load.values("rate_achieved") for load in (heddle, kafka)]
        ratio = heddle.median("rate_achieved") / max(kafka.median("rate_achieved"), 1e-9)
        states = "".join(f" ({name}: failed)" for name, load in (("Heddle", heddle), ("Kafka", kafka)) if load.state == "failed")
        cells = [key[0], f"{key[1]:,}", size_name(key[2]), key[3], *map(spread, rates), f"{ratio:.2f}{states}"]
        cells += [f"{load.median('mb_per_s'):,.0f}" for load in (heddle, kafka)]
        cells += [spread(load.values("cpu_s_per_million"), 2) for load in (heddle, kafka)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def memory_table(results):
    lines = [
        "| durability | partitions | Heddle peak RSS MiB | Kafka peak RSS MiB | Heddle RSS at the end | Kafka RSS at the end |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for block in results.blocks:
        cells = [block[0], f"{block[1]:,}"]
        for of_lives in (results.peak_rss_kib, results.end_rss_kib):
            for broker in ("heddle", "kafka"):
                cells.append(spread([kib / 1024 for kib in of_lives(broker, block)]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def facts_text(results):
    facts = results.facts
    lines = ["| | |", "| --- | --- |"]
    for name in ("heddle_commit", "kafka_version", "kernel", "processors", "memory", "file_system"):
        lines.append(f"| {name.replace('_', ' ')} | {facts[name]} |")
    lines.append(f"| java | {facts['java_version'][0]} |")
    lines.append(f"| Heddle | `{facts['heddle_command']}` |")
    lines.append(f"| Kafka | `{facts['kafka_command']}` |")
    for name, configs in facts["topic_configs"].items():
        lines.append(f"| topic configs, {name} | `{configs}` |")
    for size, batch in facts["batches"].items():
        lines.append(f"| largest batch and linger of batched requests, {size_name(int(size))} | {batch} |")
    properties = facts["kafka_server_properties"].strip()
    return "\n".join(lines) + f"\n\n`server.properties` of Kafka:\n\n```properties\n{properties}\n```"


def failed_text(results):
    failed = [
        f"- {broker}: {load_name(key)}: {', '.join(sorted({kind for r in load.results for kind in r['run']['errors_by_kind']}))}"
        for broker, loads in results.loads.items()
        for key, load in loads.items()
        if load.state == "failed"
    ]
    return "\n".join(failed) or "None: every batch that was answered was acknowledged."


def sections(results):
    """(title, Markdown) of everything that is made of the results."""
    made = [("Verdicts", verdict_text(results)), ("Where Kafka wins", kafka_text(results))]
    for durability, partitions in results.blocks:
        title = f"Latency: {durability}, {partitions:,} {'partition' if partitions == 1 else 'partitions'}"
        made.append((title, latency_table(results, (durability, partitions))))
    made.append(("Saturation", saturation_table(results)))
    made.append(("Memory", memory_table(results)))
    made.append(("Loads with errors", failed_text(results)))
    made.append(("Configuration", facts_text(results)))
    return made


def fill_readme(markdown):
    path = HERE / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    path.write_text(f"{before}{MARKS[0]}\n\n{markdown}\n\n{MARKS[1]}{after}", encoding="utf-8")


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    results = Results(folder)
    made = sections(results)
    markdown = "\n\n".join(f"## {title}\n\n{text}" for title, text in made)
    (folder / "summary.md").write_text(markdown + "\n", encoding="utf-8")
    (folder / "report.html").write_text(page.render(results, made), encoding="utf-8")
    if folder == HERE / "results":
        fill_readme(markdown)
    print(verdict_text(results))
    print(f"tables: {folder / 'summary.md'}, page: {folder / 'report.html'}")


main()
