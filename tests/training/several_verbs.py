"""Runs verbs one after another, in the processes that the first of them starts.

python several_verbs.py '[["train", "--devices", "2"], ["train", "--devices", "2"]]'
"""

import json
import sys

from dualformer.cli.main import main

if __name__ == "__main__":
    sys.exit(max([main(words) for words in json.loads(sys.argv[1])]))
