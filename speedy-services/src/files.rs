//! How many files this process may have open: volumes, and a connection is one, too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit that holds as far as this process may, once, when it starts. The low one that shells give is for
/// programs that can't live with more.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(from = current, to = maximum, "raised the limit of open files"),
        Err(error) => tracing::warn!(
            limit = current,
            %error,
            "the limit of open files can't be raised; set LimitNOFILE, or ulimit -n, where many clients are to be served"
        ),
    }
}

/// The limit that holds; `None` where there is none.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        raise_limit();
        assert_eq!(limit(), getrlimit(Resource::Nofile).maximum);
    }
}
