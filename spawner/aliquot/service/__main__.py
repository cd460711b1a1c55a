"""``python -m aliquot.service``: run the Hub's service."""

from __future__ import annotations

import sys

from aliquot.service.app import main

if __name__ == "__main__":
    main(external="--external" in sys.argv[1:])
