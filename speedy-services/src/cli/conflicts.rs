//! What is wrong with options that are each in order.

use super::{AdminAddress, Limits, Role};
use crate::address::HostPort;

/// Options that do not go together: which, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Conflict {
    /// Their names.
    pub(super) options: [&'static str; 2],
    pub(super) reason: String,
}

/// What keeps a role from being started as it was asked to.
pub(super) fn conflicts(role: &Role) -> Vec<Conflict> {
    let mut found = Vec::new();
    if let Some(AdminAddress::At(admin)) = &role.process().admin
        && collide(admin, role.listen())
    {
        let (admin, listen) = (admin.to_string(), role.listen().to_string());
        let reason = match admin == listen {
            true => format!("both are {listen}"),
            false => format!("{admin} and {listen} can't both be listened on"),
        };
        found.push(Conflict {
            options: ["admin", "listen"],
            reason: format!("{reason}; choose another port for one of them"),
        });
    }
    let limits: Option<&Limits> = match role {
        Role::Serve(serve) => Some(&serve.limits),
        Role::Registry(registry) => Some(&registry.limits),
        _ => None,
    };
    if limits.is_some_and(|limits| limits.client_burst.is_some() && limits.client_rate.count().is_none()) {
        found.push(Conflict {
            options: ["client-burst", "client-rate"],
            reason:
                "a burst does nothing while the rate is off; set client-rate too, or leave client-burst out"
                    .to_owned(),
        });
    }
    found
}

/// Whether one process can't listen on both. A name may mean any address; only one is known everywhere.
fn collide(one: &HostPort, other: &HostPort) -> bool {
    let host = |address: &HostPort| match address.host() {
        "localhost" => "127.0.0.1".to_owned(),
        host => host.to_ascii_lowercase(),
    };
    // Port 0 is a free one each time.
    one.port() == other.port()
        && one.port() != 0
        && (one.is_wildcard() || other.is_wildcard() || host(one) == host(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_collide_where_a_port_would_be_taken_twice() {
        let collide = |one: &str, other: &str| collide(&one.parse().unwrap(), &other.parse().unwrap());
        for (one, other, expected) in [
            ("127.0.0.1:5", "127.0.0.1:5", true),
            ("127.0.0.1:5", "127.0.0.1:6", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:5", "127.0.0.1:5", true),
            ("127.0.0.1:5", "[::]:5", true),
            ("localhost:5", "127.0.0.1:5", true),
            ("10.0.0.1:5", "127.0.0.1:5", false),
            ("store-1:5", "Store-1:5", true),
        ] {
            assert_eq!(collide(one, other), expected, "{one} {other}");
        }
    }
}
