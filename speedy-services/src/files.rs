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

/// How many more files this process may open than it has open now; `None` where there is no limit.
pub fn left() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile).current?;
    // The listing itself is one; a process that can't read it has few.
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64);
    Some(limit.saturating_sub(open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }

    #[test]
    fn what_is_open_is_not_left() {
        let (limit, files) = (getrlimit(Resource::Nofile).current, 100);
        let held: Vec<_> = (0..files).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        assert!(left() <= limit.map(|limit| limit - files), "{held:?}");
        assert!(left() > limit.map(|limit| limit / 2));
    }
}
