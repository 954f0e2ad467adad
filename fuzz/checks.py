"""What every input must keep to: declared exceptions, one second, memory in proportion, no side effects.

`Checks(harness, folder).run(data)` gives the harness one input and says what it did wrong, or None.
"""

import os
import sys
import time
import traceback
import tracemalloc
import warnings

from rtfast import CheckpointError

try:
    import resource
except ImportError:  # Windows: what is measured byte by byte remains
    resource = None

#: Seconds that one input may take.
SECONDS = 1.0
#: Bytes of memory that one input may take: so many times its own, and what the harness grants besides.
RATIO = 20
#: Memory is measured byte by byte on each input of so many, and on each that made the process larger than this.
MEASURED, GROWTH = 64, 16 * 2**20
#: The process may grow by so much for one input, besides 20 times its size: what C++ and Rust take is in this alone.
NATIVE = 64 * 2**20
#: Longest message of an error: what is wrong, not the file.
MESSAGE = 200_000
#: Audit events that no input may cause; "open" is judged by its path.
FORBIDDEN = ("socket", "subprocess", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pickle",
             "marshal", "ctypes", "mmap", "shutil", "urllib", "exec", "compile", "import", "code.", "cpython.run",
             "os.remove", "os.rename", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod")

_listener, _hooked = None, []


def _audit(event, arguments):
    if _listener is not None and event not in ("object.__getattr__", "object.__setattr__"):
        _listener.hear(event, arguments)


class Fault(Exception):
    """What a harness found wrong itself, such as two readers that disagree."""


class Checks:
    """A harness, its folder, and what was seen of it so far."""

    def __init__(self, harness, folder):
        global _listener
        self.harness, self.folder = harness, str(folder)
        self.executions = self.accepted = 0
        self.slowest, self.slowest_input, self.memory = 0.0, b"", 0.0
        self._events, self._listens, self._ran = [], False, False
        warnings.simplefilter("ignore")  # a warning about a file is no error
        for data in harness.seeds():  # modules that are imported late are there now
            self._call(data)
        if not _hooked:
            sys.addaudithook(_audit)
            _hooked.append(True)
        _listener = self
        self._resident = _resident()

    def end(self):
        """Stop listening: an audit hook stays for good."""
        global _listener
        if _listener is self:
            _listener = None

    def hear(self, event, arguments):
        """An audit event."""
        if self._listens and (event.startswith(FORBIDDEN) or (
                event == "open" and not str(arguments[0]).startswith(self.folder))):
            self._events.append(f"{event} {str(arguments[0])[:100] if arguments else ''}")

    def run(self, data):
        """Give the harness `data`: None, or what was wrong, one line to know it again by and more after it."""
        self.executions += 1
        begun = time.perf_counter()
        fault = self._outcome(data)
        seconds = time.perf_counter() - begun
        self.accepted += self._ran
        if seconds > SECONDS:  # others may have had the processor
            seconds = min(seconds, *(self._seconds(data) for _ in range(3)))
        if seconds > self.slowest:
            self.slowest, self.slowest_input = seconds, data
        if fault is None and seconds > SECONDS:
            fault = f"hang\n{seconds:.2f} s"
        grown, self._resident = _resident() - self._resident, _resident()
        if fault is None and grown > RATIO * len(data) + NATIVE:
            fault = f"memory of the process\n{grown} bytes for {len(data)}"
        if fault is None and (self.executions % MEASURED == 0 or grown > GROWTH):
            fault = self._measured(data)
        return fault

    def _seconds(self, data):
        begun = time.perf_counter()
        self._outcome(data)
        return time.perf_counter() - begun

    def _measured(self, data):
        tracemalloc.start()
        self._outcome(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        share = peak / (RATIO * len(data) + self.harness.memory)
        self.memory = max(self.memory, share)
        return f"memory\n{peak} bytes for {len(data)}" if share > 1 else None

    def _outcome(self, data):
        self._events.clear()
        self._listens = True
        try:
            fault = self._call(data)
        finally:
            self._listens = False
        return f"event {self._events[0]}" if fault is None and self._events else fault

    def _call(self, data):
        """The harness on `data`: None, or the exception that it may not raise."""
        self._ran = False
        try:
            self.harness.run(data)
            self._ran = True
        except self.harness.allowed as error:
            return self._message(error)
        except Fault as error:
            return f"{str(error).splitlines()[0][:100]}\n{error}"
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # Rust's panics are no Exception
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "rtfast" in frame.filename]
            place = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "?"
            return f"{type(error).__name__} at {place}\n{''.join(traceback.format_exception(error))[-3000:]}"
        return None

    def _message(self, error):
        if not isinstance(error, CheckpointError):
            return None
        message = str(error)
        if not message.startswith(self.folder):
            return f"the message names no file\n{message[:500]}"
        return f"long message\n{len(message)} characters" if len(message) > MESSAGE else None


def _resident():
    """The most bytes that the process ever had in memory."""
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
