//! Checks, how they are run, and what they say when they fail.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use speedy_core::digest::Algorithm;

use crate::clauses::{CLAUSES, clause};
use crate::target::Target;

/// Some requests, and the clauses that they are held to.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    /// Its module and function.
    pub(crate) name: &'static str,
    /// All clauses that it comes by, and no others: it fails if it does not.
    pub(crate) clauses: &'static [&'static str],
    pub(crate) run: for<'a> fn(&'a Target) -> BoxFuture<'a, ()>,
}

/// A check of a function and the clauses that it covers.
macro_rules! check {
    ($function:ident, $($clause:literal),+ $(,)?) => {
        $crate::suite::Check {
            name: concat!(module_path!(), "::", stringify!($function)),
            clauses: &[$($clause),+],
            run: |target| Box::pin($function(target)),
        }
    };
}
pub(crate) use check;

type Covered = Arc<Mutex<BTreeSet<&'static str>>>;

/// Runs each check with each algorithm, and says how much was covered.
pub(crate) fn run(arguments: &Arguments, checks: &[Check]) -> ExitCode {
    let inherited = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !keep(panic) {
            inherited(panic);
        }
    }));
    let covered = Covered::default();
    let mut trials = vec![table_trial(checks)];
    for check in checks {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            trials.push(trial(*check, algorithm, &covered));
        }
    }
    let conclusion = libtest_mimic::run(arguments, trials);
    if !arguments.list {
        println!("{}\n", summary(&covered.lock().unwrap(), checks.len()));
    }
    conclusion.exit_code()
}

/// Every clause has a check, and every check is of clauses of the table.
fn table_trial(checks: &[Check]) -> Trial {
    let named: Vec<&str> = checks.iter().flat_map(|check| check.clauses).copied().collect();
    Trial::test("every_clause_has_a_check", move || {
        let mut seen = BTreeSet::new();
        if let Some(twice) = CLAUSES.iter().find(|clause| !seen.insert(clause.id)) {
            return Err(format!("two clauses are called {}", twice.id).into());
        }
        if let Some(unknown) = named.iter().find(|id| !seen.contains(*id)) {
            return Err(format!("a check names {unknown}, which is no clause").into());
        }
        let open: Vec<String> =
            CLAUSES.iter().filter(|clause| !named.contains(&clause.id)).map(ToString::to_string).collect();
        if open.is_empty() { Ok(()) } else { Err(format!("without a check:\n{}", open.join("\n")).into()) }
    })
}

fn trial(check: Check, algorithm: Algorithm, covered: &Covered) -> Trial {
    let covered = Arc::clone(covered);
    let name = check.name.strip_prefix("conformance::").unwrap_or(check.name);
    Trial::test(format!("{name}::{}", algorithm.name()), move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let visited = runtime.block_on(attempt(check, algorithm))?;
        let declared: BTreeSet<&str> = check.clauses.iter().copied().collect();
        if visited != declared {
            let message = format!("the check is said to cover {declared:?}, and came by {visited:?}");
            return Err(message.into());
        }
        covered.lock().unwrap().extend(visited);
        Ok(())
    })
}

async fn attempt(check: Check, algorithm: Algorithm) -> Result<BTreeSet<&'static str>, Failed> {
    let function = check.name.rsplit("::").next().unwrap_or(check.name);
    let target = Target::new(function, algorithm).await;
    let outcome = AssertUnwindSafe((check.run)(&target)).catch_unwind().await;
    let visited = target.visited();
    match outcome {
        Ok(()) => Ok(visited.into_iter().collect()),
        Err(_) => {
            let what = PANIC.take().unwrap_or_default();
            let at = visited.last().map_or("before any clause".into(), |id| clause(id).to_string());
            Err(format!("clause {at}\nin {}\n{what}", target.repository()).into())
        }
    }
}

thread_local! {
    /// What the last failed assertion on this thread said, and where.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps the words of a check that fails for its report; `false` where the panic is not a check's.
fn keep(panic: &PanicHookInfo<'_>) -> bool {
    let ours = panic.location().is_some_and(|at| at.file().contains("tests/conformance/"));
    if ours {
        let message = panic.payload_as_str().unwrap_or("a check panicked");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        PANIC.set(Some(format!("{place}\n{message}")));
    }
    ours
}

fn summary(covered: &BTreeSet<&str>, checks: usize) -> String {
    let mut chapters: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for clause in CLAUSES {
        let (held, all) = chapters.entry(clause.chapter).or_default();
        *held += usize::from(covered.contains(clause.id));
        *all += 1;
    }
    let whole = chapters.values().filter(|(held, all)| held == all).count();
    format!(
        "conformance: {} of {} clauses held, {whole} of {} chapters whole; {checks} checks, each with sha256 and sha512",
        covered.len(),
        CLAUSES.len(),
        chapters.len(),
    )
}
