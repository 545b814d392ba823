#!/usr/bin/env python3
"""Fails where two of our libraries define one symbol.

  duplicate_symbols.py [--nm NM] LIBRARY.a...

A linker takes a symbol from the first library that has it and does not look at the others, so that two functions of one
name pass unnoticed until a program links both libraries and calls the wrong one. Counted are strong symbols of code and
data. Weak ones (inline functions, templates, tables of virtual functions) come from headers, so that every object that
includes one has them.
"""
import argparse
import collections
import subprocess
import sys

STRONG = set("ABDGRST")


def definitions(listing):
    """(library, object, symbol) of each strong definition; a line is "lib.a:file.cc.o:0000 T name"."""
    for line in listing.splitlines():
        place, _, rest = line.rpartition(":")
        fields = rest.split(None, 2)
        if len(fields) == 3 and fields[1] in STRONG and not fields[2].startswith("__odr_asan"):
            library, _, object_file = place.partition(".a:")
            yield library.rpartition("/")[2], object_file, fields[2]


def duplicates(listing):
    places = collections.defaultdict(set)
    for library, object_file, symbol in definitions(listing):
        places[symbol].add((library, object_file))
    return {symbol: sorted(where) for symbol, where in sorted(places.items()) if len(where) > 1}


def check_that_it_can_fail():
    listing = ("a/liba.a:x.cc.o:0000000000000000 T _Z1fv\na/libb.a:y.cc.o:0000000000000010 T _Z1fv\n"
               "a/liba.a:x.cc.o:0000000000000000 W _Z1gv\na/libb.a:y.cc.o:0000000000000000 W _Z1gv\n"
               "a/liba.a:x.cc.o:0000000000000000 D value\n")
    assert duplicates(listing) == {"_Z1fv": [("liba", "x.cc.o"), ("libb", "y.cc.o")]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--nm", default="nm")
    parser.add_argument("libraries", nargs="+")
    options = parser.parse_args()
    check_that_it_can_fail()
    listing = subprocess.run([options.nm, "-gA", "--defined-only", *options.libraries], check=True, capture_output=True, text=True).stdout
    symbols = sum(1 for _ in definitions(listing))
    found = duplicates(listing)
    for symbol, where in found.items():
        print(f"{symbol} is defined in " + " and in ".join(f"{library} ({object_file})" for library, object_file in where))
    print(f"{len(options.libraries)} libraries, {symbols} symbols, {len(found)} of them defined twice")
    if symbols < 100:
        sys.exit("that is too few: were these the libraries?")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
