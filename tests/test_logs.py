import io
import json
import logging
import subprocess
import sys

PROGRAM = """
import logging, structlog
from server import logs
logs.configure("door", "info")
structlog.contextvars.bind_contextvars(endpoint="m")
log = structlog.get_logger("x")
log.info("hello", request_id="r1")
log.debug("unheard")
logging.getLogger("uvicorn").warning("from the library")
logging.getLogger("uvicorn").info("unheard")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def test_each_line_is_an_object_with_its_origin() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    hello, library, failed = (json.loads(line) for line in io.StringIO(ran.stderr))
    assert (hello["event"], hello["request_id"], hello["endpoint"], hello["component"]) == ("hello", "r1", "m", "door")
    assert hello["level"] == "info"
    assert hello["timestamp"].endswith("Z")
    assert (library["event"], library["logger"]) == ("from the library", "uvicorn")
    assert "ZeroDivisionError" in failed["exception"]
    assert logging.getLevelName(logging.INFO) == "INFO"
