"""pick_plan.py RESULT DROP: the plan of the fastest front member whose accuracy drops by at most DROP."""
import json
import sys

result, drop = json.load(open(sys.argv[1])), float(sys.argv[2])
base = result["baseline"]["metrics"]["accuracy"]
good = [m for m in result["front"] if base - m["metrics"]["accuracy"] <= drop]
best = min(good or result["front"], key=lambda m: m["metrics"]["latency_p50_us"])
json.dump(best["candidate"], sys.stdout)
