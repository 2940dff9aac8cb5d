"""How soon a process is back: a killed one within a second, DESIGN promises; here on a machine that is loaded, too."""

from collections.abc import Sequence
from statistics import median

from tests.soak.checks.finding import Finding, finding
from tests.soak.disturb.disturber import Done

MEDIAN_MAX_S = 1.0
LONGEST_MAX_S = 10.0  # of one: the machine is shared


def check_back(done: Sequence[Done], faults: Sequence[str]) -> Finding:
    """Killed processes of the exchange."""
    kills = [each for each in done if each.kind == "kill" and each.target != "MariaDB"]
    times = sorted(each.back_s for each in kills)
    if not times:
        return finding("back after a kill", "nothing was killed", [*faults, "nothing was killed"])
    found = list(faults)
    if median(times) > MEDIAN_MAX_S:
        found.append(f"the median is {median(times):.2f} s")
    found += [f"{each.target} was back after {each.back_s:.1f} s" for each in kills if each.back_s > LONGEST_MAX_S]
    text = f"{len(times)} kills: median {median(times) * 1000:.0f} ms, longest {times[-1] * 1000:.0f} ms"
    return finding("back after a kill", text, found)
