use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::{Buf, Bytes};
use speedy_core::meta::{BackupError, BackupInfo, check_backup};

use super::{Report, ToolError, text};
use crate::cli::Backup;
use crate::tools::bar::Bar;
use crate::tools::print::print;
use crate::tools::remote;

/// Pieces of the answer that wait for the disk.
const PIECES_AHEAD: usize = 16;

pub(super) fn run(options: &Backup) -> Result<ExitCode, ToolError> {
    // Refused before the node does any work; looked at again when the name is given.
    if options.file.exists() {
        return Err(ToolError::Exists(options.file.clone()));
    }
    let bar = Bar::counting("backing up", "rows");
    let aside = Aside::create(&options.file)?;
    let info = receive(options, &aside, &bar)?;
    aside.keep()?;
    bar.end();
    let report = Report::new(options.file.clone(), None, &info);
    print(options.json, &report, text).map_err(ToolError::Print)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the node's answer into the file, verified on its way.
fn receive(options: &Backup, aside: &Aside, bar: &Bar) -> Result<BackupInfo, ToolError> {
    let (pieces, answer) = sync_channel::<Bytes>(PIECES_AHEAD);
    let (received, checked) = std::thread::scope(|scope| {
        let checking = scope.spawn(|| {
            let tee = Tee { answer, piece: Bytes::new(), file: &aside.file, written: Ok(()) };
            check(tee, bar)
        });
        let received = remote::stream(&options.admin, "/meta/backup", |piece| match pieces.send(piece) {
            Ok(()) => ControlFlow::Continue(()),
            // The other side has found something wrong and says what.
            Err(_) => ControlFlow::Break(()),
        });
        drop(pieces);
        let checked = checking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (received, checked)
    });
    // Why an answer broke off is known better where it came in than where it ended too early.
    received?;
    checked.map_err(|error| match error {
        CheckError::File(source) => aside.failed(source),
        CheckError::Answer(source) => ToolError::Answer { admin: options.admin.clone(), source },
    })
}

enum CheckError {
    File(io::Error),
    Answer(BackupError),
}

fn check(mut tee: Tee<'_>, bar: &Bar) -> Result<BackupInfo, CheckError> {
    let checked = check_backup(&mut tee, &mut |done, of| bar.advance(done, of));
    tee.written.map_err(CheckError::File)?;
    checked.map_err(CheckError::Answer)
}

/// Gives what has come in to its reader, and writes it into the file.
struct Tee<'a> {
    answer: Receiver<Bytes>,
    piece: Bytes,
    file: &'a File,
    written: io::Result<()>,
}

impl Read for Tee<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let Ok(piece) = self.answer.recv() else { return Ok(0) };
            if let Err(error) = self.file.write_all(&piece) {
                self.written = Err(error);
                return Err(io::Error::other("the file can't be written"));
            }
            self.piece = piece;
        }
        let read = self.piece.len().min(into.len());
        self.piece.copy_to_slice(&mut into[..read]);
        Ok(read)
    }
}

/// A file beside its final name. Removed unless it is kept.
struct Aside {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    is_kept: bool,
}

impl Aside {
    fn create(path: &Path) -> Result<Self, ToolError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".unfinished-{}", std::process::id()));
        let temporary = path.with_file_name(name);
        // Credentials may be among the metadata: for nobody else to read.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = file.map_err(|source| ToolError::Write { path: path.into(), source })?;
        Ok(Self { path: path.into(), temporary, file, is_kept: false })
    }

    /// Gives it its name, once it is on stable storage.
    fn keep(mut self) -> Result<(), ToolError> {
        self.file.sync_all().map_err(|source| self.failed(source))?;
        // Somebody may have given the name to something else meanwhile.
        if self.path.exists() {
            return Err(ToolError::Exists(self.path.clone()));
        }
        fs::rename(&self.temporary, &self.path).map_err(|source| self.failed(source))?;
        self.is_kept = true;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let synced =
            File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all());
        synced.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> ToolError {
        ToolError::Write { path: self.path.clone(), source }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.is_kept {
            // It says of itself that it is unfinished, should it stay.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
