use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is over by then needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often there is a line where there is no terminal for a bar.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A bar on stderr for what takes longer than a second. Where that is no terminal it is a line every ten seconds.
#[derive(Debug)]
pub(super) struct Bar {
    what: &'static str,
    /// What is counted, where that is not bytes.
    things: Option<&'static str>,
    began: Instant,
    is_shown: AtomicBool,
    /// Lines so far.
    lines: AtomicU32,
    bar: ProgressBar,
}

impl Bar {
    /// One that says what is being done.
    pub(super) fn new(what: &'static str) -> Self {
        // From the beginning, so that it knows how fast it goes when it is shown.
        let bar = ProgressBar::hidden().with_style(style()).with_message(what);
        let (is_shown, lines) = (AtomicBool::new(false), AtomicU32::new(0));
        Self { what, things: None, began: Instant::now(), is_shown, lines, bar }
    }

    /// One that counts things of this name rather than bytes.
    pub(super) fn counting(what: &'static str, things: &'static str) -> Self {
        let bar = Self { things: Some(things), ..Self::new(what) };
        bar.bar.set_style(counting_style());
        bar.bar.set_prefix(things);
        bar
    }

    /// How much of how much is done.
    pub(super) fn advance(&self, done: u64, of: u64) {
        self.bar.set_length(of.max(done));
        self.bar.set_position(done);
        if self.began.elapsed() >= PATIENCE && !self.is_shown.swap(true, Ordering::Relaxed) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        }
        if !io::stderr().is_terminal()
            && let Some(line) = self.line(self.began.elapsed(), done, of)
        {
            // Whoever closed the pipe does not want to read it.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// How far it is, where it is time to say so.
    fn line(&self, elapsed: Duration, done: u64, of: u64) -> Option<String> {
        if elapsed < LINE_EVERY * (self.lines.load(Ordering::Relaxed) + 1) {
            return None;
        }
        self.lines.fetch_add(1, Ordering::Relaxed);
        let what = self.what;
        Some(match self.things {
            Some(things) => format!("{what}: {done} of {of} {things}"),
            None => format!("{what}: {} of {}", BinaryBytes(done), BinaryBytes(of)),
        })
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template(
        "{msg} [{bar:30}] {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left",
    );
    style.expect("the template is well-formed").progress_chars("=> ")
}

fn counting_style() -> ProgressStyle {
    let style = ProgressStyle::with_template(
        "{msg} [{bar:30}] {percent:>3}%  {human_pos} of {human_len} {prefix}  {eta} left",
    );
    style.expect("the template is well-formed").progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_well_formed() {
        Bar::new("checking").end();
        Bar::counting("backing up", "rows").end();
    }

    #[test]
    fn without_a_terminal_there_is_a_line_every_ten_seconds() {
        let bar = Bar::new("moving");
        let lines: Vec<String> = (0..30)
            .filter_map(|second| bar.line(Duration::from_secs(second), second << 30, 40 << 30))
            .collect();
        assert_eq!(lines, ["moving: 10.00 GiB of 40.00 GiB", "moving: 20.00 GiB of 40.00 GiB"]);
        let rows = Bar::counting("backing up", "rows").line(LINE_EVERY, 3, 9);
        assert_eq!(rows.as_deref(), Some("backing up: 3 of 9 rows"));
    }
}
