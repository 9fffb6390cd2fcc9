//! What each role of the command line is made of.

mod waiting;

pub(crate) use waiting::Waiting;
