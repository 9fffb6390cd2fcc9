//! A cluster under load to which things happen, and what came of it.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::load::{Load, LoadOptions, Readback, Seen};
use crate::rack::{Fault, Rack};

/// Operations that the clients do before anything happens, and after it is mended.
const OPERATIONS: u64 = 30;

/// A cluster under load.
#[derive(Debug)]
pub struct Ordeal {
    // Dropped first: it asks the rack.
    load: Load,
    rack: Rack,
    seed: u64,
    endured: Vec<Endured>,
}

/// A fault that is over.
#[derive(Clone, Copy, Debug)]
pub struct Endured {
    /// What it was.
    pub fault: Fault,
    /// How long it took from its mending until every group was complete again.
    pub redundant_after: Duration,
}

/// What came of it. Its text is for people.
#[derive(Clone, Debug)]
pub struct Report {
    /// What chose everything.
    pub seed: u64,
    /// What happened.
    pub endured: Vec<Endured>,
    /// What the clients saw.
    pub seen: Seen,
    /// What was read again when all was over, from all nodes; and then from one of each group alone.
    pub read_back: Vec<Readback>,
}

impl Ordeal {
    /// Starts a cluster of so many groups in `directory`, and clients.
    ///
    /// # Errors
    /// When a process does not start, or the clients get nothing done.
    pub fn start(directory: &Path, groups: usize, options: LoadOptions) -> Result<Self> {
        let rack = Rack::start(directory, groups)?;
        let load = Load::start(rack.clients(), &rack.registries(), options)?;
        load.wait(OPERATIONS)?;
        Ok(Self { load, rack, seed: options.seed, endured: Vec::new() })
    }

    /// What the clients have seen so far.
    pub fn seen(&self) -> Seen {
        self.load.seen()
    }

    /// Lets a fault happen, mends it, and waits until every group is complete.
    ///
    /// # Errors
    /// When that never comes, or a process ended that no fault ended.
    pub fn endure(&mut self, fault: Fault) -> Result<()> {
        let number = self.endured.len() as u64;
        self.run(fault, self.seed.wrapping_add(number)).with_context(|| format!("while {fault}"))
    }

    fn run(&mut self, fault: Fault, seed: u64) -> Result<()> {
        fault.happen(&mut self.rack, seed)?;
        fault.last(&self.rack)?;
        fault.mend(&mut self.rack)?;
        let redundant_after = fault.wait_over(&self.rack)?;
        self.endured.push(Endured { fault, redundant_after });
        self.load.wait(OPERATIONS)?;
        self.rack.ensure_all_run()
    }

    /// Stops the clients and reads everything again; then, if `alone`, from each node of the groups without the others.
    ///
    /// # Errors
    /// When that can't be done. What was lost is in the report.
    pub fn finish(mut self, alone: bool) -> Result<Report> {
        let (seen, acknowledged) = self.load.stop()?;
        let mut read_back = vec![acknowledged.read_back()?];
        if alone {
            self.rack.with_one_of_each_group(|_| {
                read_back.push(acknowledged.read_back()?);
                Ok(())
            })?;
        }
        Ok(Report { seed: self.seed, endured: self.endured, seen, read_back })
    }
}

impl Report {
    /// Sees that nothing failed in spite of retries and nothing was lost.
    ///
    /// # Errors
    /// When something was; the text is the whole report.
    pub fn ensure_harmless(&self) -> Result<()> {
        let lost = self.read_back.iter().any(|read| !read.lost.is_empty());
        ensure!(!lost, "acknowledged data was lost\n{self}");
        ensure!(self.seen.errors.is_empty(), "clients saw errors\n{self}");
        // Of nothing, nothing is lost.
        let (blobs, manifests) = (self.seen.pushed.0, self.seen.manifests);
        ensure!(blobs >= 10 && manifests >= 3, "{blobs} blobs and {manifests} manifests show little\n{self}");
        let expected = blobs + manifests;
        let read = self.read_back.iter().all(|read| read.found as u64 == expected);
        ensure!(read, "{expected} blobs and manifests were acknowledged, and others were read\n{self}");
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed                  {}", self.seed)?;
        for Endured { fault, redundant_after } in &self.endured {
            writeln!(f, "  {fault}: full redundancy after {:.1} s", redundant_after.as_secs_f64())?;
        }
        write!(f, "{}", self.seen)?;
        for (round, Readback { found, lost }) in self.read_back.iter().enumerate() {
            let from = match round {
                0 => "all nodes".to_owned(),
                number => format!("node {number} of each group alone"),
            };
            write!(f, "\nread again            {found} from {from}; lost: {}", lost.len())?;
            for text in lost.iter().take(5) {
                write!(f, "\n  lost: {text}")?;
            }
        }
        Ok(())
    }
}
