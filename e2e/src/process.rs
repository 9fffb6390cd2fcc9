//! Processes: those that run beside a test, and those that it waits for.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(20);

/// How soon it does so first, for what takes no time.
const FIRST_POLL: Duration = Duration::from_millis(1);

/// How much of a log a failure shows.
const LOG_TAIL: usize = 8 * 1024;

/// A process that runs beside the test, its output in a log. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; its output is appended to `NAME.log` in `logs`.
    ///
    /// # Errors
    /// When the log can't be made or the program not started.
    pub fn start(name: &str, command: &mut Command, logs: &Path) -> Result<Self> {
        let log = log_of(name, logs);
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("making the log {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system can't say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Ends it as kill -9 does.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Makes it stand still (SIGSTOP): its connections stay open, and nothing answers.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When it has ended already.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("sending {signal:?} to {}", self.name))
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(started.elapsed() < limit, "{} still runs after {limit:?}", self.name);
            sleep(POLL);
        }
    }

    /// The end of its log, under its name.
    pub fn log_tail(&self) -> String {
        log_tail(&self.name, &self.log)
    }

    /// All that it has written to its output.
    pub fn log(&self) -> String {
        read_log(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that is gone already is what we want.
        let _ = self.kill();
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

impl Finished {
    /// Runs `command` and waits for its end, whatever that is.
    ///
    /// # Errors
    /// When it can't be started, or still runs after `limit`, by when it is killed.
    pub fn of(command: &mut Command, limit: Duration) -> Result<Self> {
        // Files, not pipes: a command may write any amount before it ends, and nobody has to read meanwhile.
        let (mut output, mut errors) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(errors.try_clone()?)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let started = Instant::now();
        let mut pause = FIRST_POLL;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() > limit {
                child.kill()?;
                child.wait()?;
                bail!("still running after {limit:?}: {command:?}\n{}", text_of(&mut errors)?);
            }
            sleep(pause);
            pause = POLL.min(pause * 2);
        };
        Ok(Self { status, output: text_of(&mut output)?, errors: text_of(&mut errors)? })
    }
}

/// Runs `command`, which must succeed, and gives its standard output.
///
/// # Errors
/// When it fails or still runs after `limit`; the text has all that it wrote.
pub fn run(command: &mut Command, limit: Duration) -> Result<String> {
    let finished = Finished::of(command, limit)?;
    ensure!(
        finished.status.success(),
        "{}: {command:?}\n{}{}",
        finished.status,
        finished.output,
        finished.errors
    );
    Ok(finished.output)
}

/// Waits until `ready` says yes.
///
/// # Errors
/// When `ready` fails, or says no for longer than `limit`.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !ready()? {
        ensure!(started.elapsed() < limit, "waited {limit:?} in vain for {what}");
        sleep(POLL);
    }
    Ok(())
}

/// The end of a process's log, under the process's name, for the text of a failure.
pub(crate) fn log_tail(name: &str, log: &Path) -> String {
    let text = read_log(log);
    let wanted = text.len().saturating_sub(LOG_TAIL);
    let start = (wanted..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    format!("--- the end of {name}'s log ---\n{}", &text[start..])
}

/// The ends of all logs in a directory, for the text of a failure.
pub fn logs_in(directory: &Path) -> String {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut logs: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.extension() == Some("log".as_ref())).collect();
    logs.sort();
    let named = |log: &PathBuf| log_tail(&log.file_stem().unwrap_or_default().to_string_lossy(), log);
    logs.iter().map(named).collect::<Vec<_>>().join("\n")
}

/// All that is in a log.
pub(crate) fn read_log(log: &Path) -> String {
    match std::fs::read(log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("({} can't be read: {error})", log.display()),
    }
}

/// Where the log of the process is.
pub(crate) fn log_of(name: &str, logs: &Path) -> PathBuf {
    logs.join(format!("{name}.log"))
}

fn text_of(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
