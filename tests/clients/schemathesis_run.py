"""schemathesis asks everything that /openapi.json describes, with a secret key, and all checks that it has by default."""

import os
import sys

from schemathesis.cli import schemathesis

sys.argv = [
    "schemathesis",
    "run",
    os.environ["CHURND_URL"] + "/openapi.json",
    "--header",
    "x-api-key: " + os.environ["CHURND_SECRET_KEY"],
    "--max-examples",
    os.environ.get("CHURND_SCHEMATHESIS_EXAMPLES", "25"),
    "--seed",
    "1",
    # NUL characters are refused wherever they stand, which a schema cannot say.
    "--generation-allow-x00",
    "false",
    "--no-color",
    "--output-truncate",
    "true",
]
schemathesis()
