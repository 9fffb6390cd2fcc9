//! The locks and atomics of the engine, behind one door, so that a model checker can stand in for them without a
//! change to the code that is checked: with the feature `shuttle` they are those of [shuttle], which runs a test
//! under many schedules of its threads.
//!
//! [shuttle]: https://docs.rs/shuttle

#![allow(unused_imports, reason = "the façade lists what the engine may use, not only what it uses today")]

#[cfg(not(feature = "shuttle"))]
mod real {
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
}

#[cfg(not(feature = "shuttle"))]
pub(crate) use real::*;

#[cfg(feature = "shuttle")]
mod checked;

#[cfg(feature = "shuttle")]
pub(crate) use checked::*;
