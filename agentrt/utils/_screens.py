"""Where blocks are shown: a terminal (updated live), a notebook, or anything else (plain text).

A screen is told about the block that grows (`show`), then that it is finished (`done`). Finished blocks are printed
once and never again. What grows is redrawn in place and is always smaller than the window, so that nothing is painted
into the scrollback; the parts of a long text that can no longer change are printed above it as it goes on.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment, SegmentLines
from rich.spinner import Spinner
from rich.text import Text

from agentrt.utils._blocks import Block, TextBlock, seconds

TICK_S = 0.08
NOTEBOOK_TICK_S = 0.25


class Screen(Protocol):
    def start(self) -> None: ...

    def show(self, block: Block) -> None:
        """`block` is the one that grows; it is shown as far as it is."""
        ...

    def done(self, block: Block | None = None) -> None:
        """The growing block is finished, as `block` or as it is; without a growing one, `block` is new."""
        ...

    def drop(self) -> bool:
        """Forget the growing block; False if a part of it is already printed for good."""
        ...

    def line(self, text: str) -> None:
        """Print a remark."""
        ...

    def stop(self) -> None: ...


def screen_for(console: Console, *, stream: bool) -> Screen:
    if console.is_jupyter:
        return NotebookScreen(console, stream=stream)
    if console.is_terminal and console.is_interactive and not console.is_dumb_terminal:
        return LiveScreen(console, stream=stream)
    return PlainScreen(console, stream=stream)


# --- terminal --------------------------------------------------------------------------------------------------------


class LiveScreen:
    """A panel that grows above a spinner, redrawn in place by a thread of its own, so that any loop may be blocked."""

    def __init__(self, console: Console, *, stream: bool) -> None:
        self._console = console
        self._stream = stream
        self._block: Block | None = None
        self._printed = 0
        """How many characters of the growing text are printed above for good."""
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._live = Live(
            self, console=console, auto_refresh=False, transient=True, vertical_overflow="crop", redirect_stderr=True
        )
        self._spinner = Spinner("dots" if console.encoding.lower().startswith("utf") else "line", style="cyan")
        self._began = time.monotonic()
        self._ticker = threading.Thread(target=self._tick, name="agentrt-screen", daemon=True)

    def start(self) -> None:
        self._live.start(refresh=True)
        self._ticker.start()

    def stop(self) -> None:
        self._stopping.set()
        self._ticker.join()
        self.done()
        self._live.stop()

    def show(self, block: Block) -> None:
        if isinstance(block, TextBlock) and not self._stream:
            return
        with self._lock:
            self._block = block

    def done(self, block: Block | None = None) -> None:
        with self._lock:
            if block is None or self._printed:
                block = self._block or block
            printed, self._printed, self._block = self._printed, 0, None
            if block is not None:
                self._print(self._lines(block, printed, from_top=printed == 0, to_bottom=True))

    def drop(self) -> bool:
        with self._lock:
            if self._printed:
                return False
            self._block = None
            return True

    def line(self, text: str) -> None:
        with self._lock:
            self._console.print(Text(text, style="dim"))

    def _print(self, lines: list[list[Segment]]) -> None:
        self._console.print(SegmentLines(lines, new_lines=True), end="")

    def _lines(self, block: Block, start: int, *, from_top: bool, to_bottom: bool, end: int | None = None) -> Any:
        panel = block.panel(block.text[start:end]) if isinstance(block, TextBlock) else block.panel()
        lines = self._console.render_lines(panel, self._console.options, pad=False)
        return lines[0 if from_top else 1 : len(lines) if to_bottom else -1]

    # --- redrawing ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        while not self._stopping.wait(TICK_S):
            self._paint()

    def _paint(self) -> None:
        with self._lock:
            self._print_what_is_stable()
            self._live.refresh()

    def _window(self) -> int:
        return max(self._console.height - 3, 3)

    def _print_what_is_stable(self) -> None:
        block = self._block
        if not isinstance(block, TextBlock):
            return
        if len(self._lines(block, self._printed, from_top=self._printed == 0, to_bottom=True)) <= self._window():
            return
        rest = TextBlock(title="", style="", text=block.text[self._printed :], markdown=block.markdown, data=block.data)
        if stable := rest.stable():
            begun, self._printed = self._printed, self._printed + stable
            lines = self._lines(block, begun, from_top=begun == 0, to_bottom=False, end=self._printed)
            if block.markdown:  # which sets its paragraphs apart
                lines.append(self._console.render_lines(TextBlock(title="", style=block.style, text=" ").panel())[1])
            self._print(lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._block is not None:
            lines = self._lines(self._block, self._printed, from_top=self._printed == 0, to_bottom=True)
            yield SegmentLines(lines[-self._window() :], new_lines=True)
        if not self._stopping.is_set():
            self._spinner.update(text=Text(f"{seconds(time.monotonic() - self._began)}", style="dim"))
            yield self._spinner


# --- notebook --------------------------------------------------------------------------------------------------------


class NotebookScreen:
    """Each block is one output of the cell; the growing one is replaced a few times a second."""

    def __init__(self, console: Console, *, stream: bool) -> None:
        self._console = console
        self._stream = stream
        self._block: Block | None = None
        self._handle: Any = None
        self._shown_at = 0.0

    def start(self) -> None: ...

    def stop(self) -> None:
        self.done()

    def show(self, block: Block) -> None:
        self._block = block
        if not self._stream or time.monotonic() - self._shown_at < NOTEBOOK_TICK_S:
            return
        self._display(block.panel())
        self._shown_at = time.monotonic()

    def done(self, block: Block | None = None) -> None:
        block, self._block = block or self._block, None
        if block is not None:
            self._display(block.panel())
        self._handle = None

    def drop(self) -> bool:
        self._block = None
        return True

    def line(self, text: str) -> None:
        self._console.print(Text(text, style="dim"))

    def _display(self, renderable: RenderableType) -> None:
        from IPython import display  # pyright: ignore[reportMissingImports, reportUnknownVariableType]  a notebook has it

        if self._handle is None:
            self._handle = display.display(renderable, display_id=True)  # pyright: ignore[reportUnknownMemberType]
        else:
            self._handle.update(renderable)


# --- anything else ---------------------------------------------------------------------------------------------------


class PlainScreen:
    """Text without escape sequences, each character once: for pipes, files, logs and CI."""

    def __init__(self, console: Console, *, stream: bool) -> None:
        self._console = console
        self._stream = stream
        self._block: Block | None = None
        self._written = 0

    def start(self) -> None: ...

    def stop(self) -> None:
        self.done()

    def show(self, block: Block) -> None:
        self._block = block
        if self._stream and isinstance(block, TextBlock):
            text = block.plain_text()
            self._write(text[self._written :])
            self._written = len(text)

    def done(self, block: Block | None = None) -> None:
        if block is None or self._written:
            block = self._block or block
        written, self._written, self._block = self._written, 0, None
        if block is not None:
            self._write(block.plain()[written:] + "\n\n")

    def drop(self) -> bool:
        if self._written:
            return False
        self._block = None
        return True

    def line(self, text: str) -> None:
        self._write(text + "\n")

    def _write(self, text: str) -> None:
        # not `print`: rich would wrap it to a width that nobody has
        self._console.file.write(text)
        self._console.file.flush()
