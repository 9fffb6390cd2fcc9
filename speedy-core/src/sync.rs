//! The locks and atomics of the engine, behind one door, so that a model checker (loom, shuttle) can stand in for
//! them without a change to the code that is checked.

#![allow(unused_imports, reason = "the façade lists what the engine may use, not only what it uses today")]

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
