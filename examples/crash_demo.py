"""Kill a run half way in FOLDER, start it again, see what is not paid twice; the model is fake."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from nemoflows.journal import Journal

N_RIVERS = 7
KILL_AFTER = 9
QUESTION = "How long are the rivers?"
PRICED = {"usd": 0.01, "latency_s": 0.3}


def prepare(folder: Path) -> list[str]:
    """Write documents and a script that knows them; return the command that asks about them."""
    (folder / "docs").mkdir(parents=True)
    rules: list[dict[str, object]] = []
    said = [f"River R{n} is {n}00 kilometres long." for n in range(1, N_RIVERS + 1)]
    asked = [f"How long is river R{n}?" for n in range(1, N_RIVERS + 1)]
    for n, fact in enumerate(said, 1):
        (folder / "docs" / f"r{n}.md").write_text(f"# R{n}\n\n{fact}\n")
    quotes = {"purpose": "extract", "reply": json.dumps({"quotes": ["P1.1"]}), **PRICED}
    rules += [{"contains": question, **quotes} for question in [QUESTION, *asked]]
    cited = {"sentences": [{"text": "See the quotes.", "citations": [1]}]}
    others = {"plan": {"questions": asked}, "summarise": {"summary": "So."}, "synthesise": cited}
    rules += [{"purpose": to, "reply": json.dumps(say), **PRICED} for to, say in others.items()]
    (folder / "script.json").write_text(json.dumps(rules))
    model = f"fake:{folder / 'script.json'}"
    words = ["run", "workflows/rag.py", "answer_question", "--question", QUESTION]
    policy = json.dumps({"efficient": model, "frontier": model})
    more = ["--corpus", str(folder / "docs"), "--agents", str(N_RIVERS + 1), "--policy", policy]
    return [sys.executable, "-m", "flytekit.clis.sdk_in_container.pyflyte", *words, *more]


def demonstrate(folder: Path) -> None:
    """Run, kill, run again, and print what each paid."""
    command, journal = prepare(folder), Journal(str(folder / "journal"))
    env = {**os.environ, "NEMOFLOWS_JOURNAL": str(folder / "journal"), "NEMOFLOWS_CONCURRENCY": "3"}
    quiet = subprocess.DEVNULL
    first = subprocess.Popen(command, env=env, stdout=quiet, stderr=quiet)
    while first.poll() is None and len(journal.keys()) < KILL_AFTER:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    print(f"killed with SIGKILL after {len(journal.keys())} paid calls")
    second = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    costs = re.findall(r"^cost:.*$", second.stdout, re.MULTILINE)
    print("started again:", *(costs or [second.stdout, second.stderr]))


if __name__ == "__main__":
    demonstrate(Path(sys.argv[1]).absolute())
