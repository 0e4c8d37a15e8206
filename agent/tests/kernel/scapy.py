"""Runs scripts, one JSON string a line, and answers each with a JSON line: what it printed, and its error or null."""
import contextlib
import io
import json
import sys
import time
import traceback
import warnings

warnings.simplefilter("ignore")
from scapy.all import *

conf.verb = 0
for line in sys.stdin:
    printed, error = io.StringIO(), None
    try:
        with contextlib.redirect_stdout(printed):
            exec(json.loads(line), dict(globals()))
    except BaseException:
        error = traceback.format_exc()
    print(json.dumps([printed.getvalue(), error]), flush=True)
