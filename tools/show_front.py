"""Prints the front of a `kerf run --json` document as a table."""
import json
import sys

result = json.load(open(sys.argv[1]))
base = result["baseline"]["metrics"]
rows = [("trial", "accuracy", "latency µs", "× faster", "storage KiB", "× smaller", "")]
for member in result["front"]:
    m = member["metrics"]
    mark = "f32 baseline" if member["trial"] == 0 else ("noisy" if m.get("noisy") else "")
    rows.append((str(member["trial"]), f"{100 * m['accuracy']:.2f} %", f"{m['latency_p50_us']:.1f}",
                 f"{1 / m['latency_ratio']:.2f}" if m.get("latency_ratio") else "", f"{m['storage_bytes'] / 1024:.1f}",
                 f"{base['storage_bytes'] / m['storage_bytes']:.1f}", mark))
widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
for row in rows:
    print("  ".join(text.rjust(w) if i < 6 else text for i, (text, w) in enumerate(zip(row, widths))).rstrip())
done = [t for t in result["trials"] if t["state"] == "complete"]
print(f"\n{len(result['trials'])} trials ({len(done)} complete), {len(result['front'])} points on the front, "
      f"hypervolume {result['hypervolume']:.4g}")
