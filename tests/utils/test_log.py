from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(body: str) -> tuple[str, str]:
    """A process's stdout and stderr: logging is set up once a process."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", body], capture_output=True, text=True, timeout=30, check=True, cwd=ROOT
    )
    return done.stdout, done.stderr


def test_info_lines_are_seen_on_stderr_and_debug_lines_are_not():
    out, err = run(
        """
from agentrt.utils.log import logger
logger.info(f"Cache hit for '{1}' 100%")
logger.warning("%s left", 3)
logger.info("Booked", city="Rome", seats=2)
logger.debug("unseen")
"""
    )
    assert out == ""
    assert err == "INFO     Cache hit for '1' 100%\nWARNING  3 left\nINFO     Booked city='Rome' seats=2\n"


def test_an_exception_is_logged_with_its_traceback():
    _, err = run(
        """
from agentrt.utils.log import logger
try:
    {}["gone"]
except KeyError:
    logger.exception("failed")
"""
    )
    assert err.startswith("ERROR    failed\nTraceback")
    assert "KeyError: 'gone'" in err


def test_the_library_is_quiet_by_itself():
    _, err = run(
        """
import logging
from agentrt.utils.log import library_logger
library_logger("run").warning("unseen")
"""
    )
    assert err == ""


def test_debug_mode_and_set_log_level_show_more():
    _, err = run(
        """
from agentrt.utils.log import library_logger, logger, set_log_level
library_logger("run.a", debug=True).debug("step of a")
library_logger("run.b").debug("unseen step of b")
set_log_level("debug")
library_logger("run.b").debug("step of b")
logger.debug("program")
set_log_level("error")
logger.warning("unseen")
"""
    )
    assert err == "DEBUG    step of a\nDEBUG    step of b\nDEBUG    program\n"


def test_a_program_that_configures_logging_gets_each_line_once_with_its_place():
    out, err = run(
        """
import logging, sys
from agentrt.utils.log import logger
logging.basicConfig(format="%(name)s:%(lineno)d %(message)s", level="INFO", stream=sys.stdout)
logger.info("here", x=1)
"""
    )
    assert (out, err) == ("agentrt.app:5 here x=1\n", "")


def test_structlog_is_loaded_only_with_the_programs_logger():
    out, _ = run(
        """
import sys
import agentrt.utils.log as log
print("structlog" in sys.modules)
log.logger
print("structlog" in sys.modules)
"""
    )
    assert out == "False\nTrue\n"
