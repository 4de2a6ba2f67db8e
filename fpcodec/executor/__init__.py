"""Where independent pieces of work run: in this process, in local processes, or on Ray."""

from fpcodec.executor.base import Executor as Executor
from fpcodec.executor.base import open_executor as open_executor
from fpcodec.executor.base import run_all as run_all
