#!/usr/bin/python3
"""Writes the replay cases: pcaps/NAME/{in.pcap,out.pcap,case.toml}.

    pcaps/generate.py            write all cases, remove those that are no more
    pcaps/generate.py --check    write nothing; exit with 1 if a file differs from what would be written
    pcaps/generate.py NAME...    write these only

Needs Python 3.11 and scapy (package python3-scapy). The same input gives the same bytes on every machine.
"""

import importlib
import pkgutil
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from opinion import cases  # noqa: E402


def all_cases():
    """Every case by name."""
    found = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(cases.__path__)):
        for case in importlib.import_module(f"opinion.cases.{module}").cases():
            if case.name in found:
                sys.exit(f"{module}: there are two cases with the name {case.name}")
            found[case.name] = case
    return found


def present():
    """The names of the cases that are on disk."""
    return {path.parent.name for path in HERE.glob("*/case.toml")}


def check(found):
    """Prints what differs; returns whether anything does."""
    differs = [f"{name}: there is no such case in the generator" for name in sorted(present() - found.keys())]
    for name, case in found.items():
        for file, content in case.files().items():
            path = HERE / name / file
            if not path.exists() or path.read_bytes() != content:
                differs.append(f"{name}/{file} is not what pcaps/generate.py writes")
    print("\n".join(differs) or f"{len(found)} cases are as generated")
    return bool(differs)


def main(arguments):
    """Does what the command line says."""
    found = all_cases()
    if arguments == ["--check"]:
        sys.exit(check(found))
    unknown = [name for name in arguments if name not in found]
    if unknown:
        sys.exit(f"no such case: {', '.join(unknown)}")
    for name in arguments or found:
        found[name].write(HERE / name)
    if not arguments:
        for name in present() - found.keys():
            shutil.rmtree(HERE / name)
    print(f"{len(arguments or found)} cases written")


if __name__ == "__main__":
    main(sys.argv[1:])
