"""From trained networks to the shipped int8 artifact, and its scorer.

ONNX Runtime's official builds keep a record of every process and session (machine, program, hashes of the model) under
`~/.cache/Microsoft` and send it to their maker, on Linux since 1.29, unless this variable is set before it is imported.
Nothing here is reported to anyone unless the user says so: ORT_DISABLE_TELEMETRY=0.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
