use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is over by then needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar on stderr, where that is a terminal, for what takes longer than a second.
#[derive(Debug)]
pub(super) struct Bar {
    began: Instant,
    is_shown: AtomicBool,
    bar: ProgressBar,
}

impl Bar {
    /// One that says what is being done.
    pub(super) fn new(what: &'static str) -> Self {
        // From the beginning, so that it knows how fast it goes when it is shown.
        let bar = ProgressBar::hidden().with_style(style()).with_message(what);
        Self { began: Instant::now(), is_shown: AtomicBool::new(false), bar }
    }

    /// One that counts things of this name rather than bytes.
    pub(super) fn counting(what: &'static str, things: &'static str) -> Self {
        let bar = Self::new(what);
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
}
