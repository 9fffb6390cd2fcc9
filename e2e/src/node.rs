//! One role of Speedy as a process.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::blocking::Client;

use crate::binary::speedy;
use crate::network::Host;
use crate::process::{Process, log_of, log_tail, wait_until};

/// Until when a role that was started must listen, on a busy machine too.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Until when a role that was told to end must have ended.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Until when an admin page must answer, and `/readyz` must have noticed a change.
const PAGE_LIMIT: Duration = Duration::from_secs(5);
const READYZ_LIMIT: Duration = Duration::from_secs(20);

/// A role of Speedy that can be started, ended and started again on the same address and directories.
#[derive(Debug)]
pub struct Node {
    name: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    listen: SocketAddr,
    admin: SocketAddr,
    host: Option<Host>,
    logs: PathBuf,
    /// Another release than the one that is tested.
    binary: Option<PathBuf>,
    process: Option<Process>,
}

impl Node {
    /// A role that is not started yet. `name` is for logs; `arguments` are those after `--listen` and `--admin`.
    pub fn new(
        name: &str,
        role: &str,
        listen: SocketAddr,
        admin: SocketAddr,
        arguments: &[&str],
        logs: &Path,
    ) -> Self {
        let mut all = vec![role.to_owned()];
        all.extend(["--listen".to_owned(), listen.to_string(), "--admin".to_owned(), admin.to_string()]);
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let (name, logs) = (name.to_owned(), logs.to_owned());
        let (environment, host, binary, process) = (Vec::new(), None, None, None);
        Self { name, arguments: all, environment, listen, admin, host, logs, binary, process }
    }

    /// The same on a host of its own, where it must listen.
    #[must_use]
    pub fn on(self, host: &Host) -> Self {
        Self { host: Some(host.clone()), ..self }
    }

    /// Sets a variable of its environment, from the next start on.
    pub fn set(&mut self, variable: &str, value: &str) {
        self.environment.push((variable.to_owned(), value.to_owned()));
    }

    /// From the next start on it is this binary; `None` for the one that is tested.
    pub fn set_binary(&mut self, binary: Option<&Path>) {
        self.binary = binary.map(Path::to_owned);
    }

    /// The command that starts it.
    ///
    /// # Errors
    /// When the binary does not build.
    pub fn command(&self) -> Result<Command> {
        let program = match &self.binary {
            Some(binary) => binary.clone(),
            None => speedy()?.to_owned(),
        };
        let mut command = match &self.host {
            Some(host) => host.command(&program),
            None => Command::new(program),
        };
        command.args(&self.arguments).env_remove("RUST_LOG");
        command.envs(self.environment.iter().cloned());
        Ok(command)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// The status and the text of one of its admin pages.
    ///
    /// # Errors
    /// When nothing answers there within a few seconds.
    pub fn page(&self, path: &str) -> Result<(u16, String)> {
        let ask = || {
            let client = Client::builder().no_proxy().timeout(PAGE_LIMIT).build()?;
            let answer = client.get(format!("http://{}{path}", self.admin)).send()?;
            Ok((answer.status().as_u16(), answer.text()?))
        };
        self.host.as_ref().map_or_else(ask, |host| host.run(ask))
    }

    /// Waits until `/readyz` answers with this status and a text that has all these words.
    ///
    /// # Errors
    /// When it does not for long; the text has its last answer.
    pub fn wait_readyz(&self, status: u16, words: &[&str]) -> Result<()> {
        let mut last = String::new();
        let what = format!("{} to answer /readyz with {status} and {words:?}", self.name);
        let waited = wait_until(&what, READYZ_LIMIT, || {
            let page = self.page("/readyz");
            last = format!("{page:?}");
            Ok(page
                .is_ok_and(|(found, text)| found == status && words.iter().all(|word| text.contains(word))))
        });
        waited.with_context(|| format!("its last answer: {last}"))
    }

    /// Where its admin pages are.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// When the binary does not build or start.
    pub fn launch(&mut self) -> Result<()> {
        self.process = Some(Process::start(&self.name, &mut self.command()?, &self.logs)?);
        Ok(())
    }

    /// Waits until it takes connections.
    ///
    /// # Errors
    /// When it ends instead, or takes none for long; the text has its log.
    pub fn wait_ready(&mut self) -> Result<()> {
        let (name, listen, host) = (self.name.clone(), self.listen, self.host.as_ref());
        let process = self.process.as_mut().with_context(|| format!("{name} was not started"))?;
        let waited = wait_until(&format!("{name} on {listen}"), START_LIMIT, || {
            if let Some(status) = process.ended()? {
                bail!("{name} ended at its start: {status}");
            }
            let connect = || Ok(TcpStream::connect_timeout(&listen, Duration::from_secs(1)).is_ok());
            host.map_or_else(connect, |host| host.run(connect))
        });
        waited.with_context(|| process.log_tail())
    }

    /// Starts it and waits until it takes connections.
    ///
    /// # Errors
    /// As [`Node::launch`] and [`Node::wait_ready`].
    pub fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_ready()
    }

    /// Ends it as kill -9 does.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.running()?.kill()?;
        self.process = None;
        Ok(())
    }

    /// Makes it stand still: its connections stay open, and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.running()?.pause()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&mut self) -> Result<()> {
        self.running()?.resume()
    }

    /// Sends SIGTERM and does not wait for its end.
    ///
    /// # Errors
    /// When it does not run.
    pub fn drain(&mut self) -> Result<()> {
        self.running()?.terminate()
    }

    /// Sees that it runs.
    ///
    /// # Errors
    /// When it was not started, or has ended by itself; the text has the end of its log.
    pub fn ensure_runs(&mut self) -> Result<()> {
        let process = self.running()?;
        if let Some(status) = process.ended()? {
            bail!("{} ended by itself: {status}\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// Sends SIGTERM and waits for its end.
    ///
    /// # Errors
    /// When it does not run, or does not end in time.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let process = self.running()?;
        process.terminate()?;
        let status = process.wait(DRAIN_LIMIT).with_context(|| process.log_tail())?;
        self.process = None;
        Ok(status)
    }

    /// All that it has printed since it was first started.
    ///
    /// # Errors
    /// When it does not run.
    pub fn log(&mut self) -> Result<String> {
        Ok(self.running()?.log())
    }

    /// The end of its log, whether it still runs or not.
    pub fn log_tail(&self) -> String {
        log_tail(&self.name, &log_of(&self.name, &self.logs))
    }

    fn running(&mut self) -> Result<&mut Process> {
        let name = &self.name;
        self.process.as_mut().with_context(|| format!("{name} does not run"))
    }
}
