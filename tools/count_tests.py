"""Prints why tests were skipped, and as its last line how many passed, failed and were skipped."""
import sys
import xml.etree.ElementTree as ElementTree


def main() -> int:
    try:
        cases = list(ElementTree.parse(sys.argv[1]).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        print(f"no test report: {error}")
        print("0 passed, 1 failed")
        return 1
    failed = [c for c in cases if c.get("status") == "fail" or c.find("failure") is not None]
    skipped = [c for c in cases if c.find("skipped") is not None and c not in failed]
    for case in skipped:
        lines = (case.findtext("system-out") or "").splitlines()
        said = [l.strip() for l in lines if "skip" in l.lower() and "[" not in l]
        # GoogleTest says where, and the reason in the line below.
        said += [below.strip() for line, below in zip(lines, lines[1:]) if line.endswith(": Skipped")]
        said = [l for l in said if not l.endswith(": Skipped")]
        reason = next(iter(said), "no reason printed")
        print(f"skipped: {case.get('name')}: {reason}")
    for case in failed:
        print(f"failed: {case.get('name')}")
    passed = len(cases) - len(failed) - len(skipped)
    line = f"{passed} passed, {len(failed)} failed"
    print(line + (f", {len(skipped)} skipped" if skipped else ""))
    return 1 if failed or passed == 0 else 0


sys.exit(main())
