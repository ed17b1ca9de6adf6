"""What the programs of this folder share: requests as JSON lines in, one answer each out (docs/reward.md, docs/judge.md).

Importing it makes scripts/ and the packages of scripts/requirements-demo.txt, where scripts/deps.sh puts them, importable.
"""
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts")] + ([str(ROOT / "deps/demo")] if (ROOT / "deps/demo").is_dir() else [])


def need(package):
    """Imports a package, or says how to get it."""
    try:
        return __import__(package)
    except ImportError:
        raise SystemExit(f"{sys.argv[0]}: there is no {package}: run scripts/deps.sh demo")


def answer_lines(answer):
    """Prints answer(request) for every request on standard input."""
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
