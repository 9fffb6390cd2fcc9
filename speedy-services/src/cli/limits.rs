use std::num::NonZeroU32;

use clap::Args;
use ipnet::IpNet;

use super::values::{self, CountLimit, SizeLimit};

/// What clients may ask of a registry.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits on clients")]
pub struct Limits {
    /// The largest blob that is taken, 4MiB to 64TiB. More is answered with 413
    #[arg(
        long,
        value_name = "SIZE|off",
        env = "SPEEDY_MAX_BLOB",
        hide_env_values = true,
        value_parser = values::largest_blob,
        default_value = "off"
    )]
    pub max_blob: SizeLimit,

    /// Connections of clients at once, 1 to 1000000. More wait until one is closed
    #[arg(
        long,
        value_name = "N|off",
        env = "SPEEDY_MAX_CONNECTIONS",
        hide_env_values = true,
        value_parser = values::count_limit,
        default_value = "10000"
    )]
    pub max_connections: CountLimit,

    /// Requests with a body that are under way at once, 1 to 1000000. More wait, then get 429
    #[arg(
        long,
        value_name = "N|off",
        env = "SPEEDY_MAX_UPLOADS",
        hide_env_values = true,
        value_parser = values::count_limit,
        default_value = "off"
    )]
    pub max_uploads: CountLimit,

    /// The same for each client, 1 to 1000000
    #[arg(
        long,
        value_name = "N|off",
        env = "SPEEDY_CLIENT_UPLOADS",
        hide_env_values = true,
        value_parser = values::count_limit,
        default_value = "off"
    )]
    pub client_uploads: CountLimit,

    /// Requests a second that each client may make, 1 to 1000000. More wait, then get 429
    #[arg(
        long,
        value_name = "N|off",
        env = "SPEEDY_CLIENT_RATE",
        hide_env_values = true,
        value_parser = values::count_limit,
        default_value = "off"
    )]
    pub client_rate: CountLimit,

    /// Requests that a client may make at once after a rest, 1 to 1000000 [default: ten times --client-rate]
    #[arg(
        long,
        value_name = "N",
        env = "SPEEDY_CLIENT_BURST",
        hide_env_values = true,
        value_parser = values::count
    )]
    pub client_burst: Option<NonZeroU32>,

    /// Proxies that are believed when X-Forwarded-For says who the client is: ADDRESS or ADDRESS/BITS, separated by commas
    #[arg(
        long,
        value_name = "LIST",
        env = "SPEEDY_TRUSTED_PROXIES",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = values::network
    )]
    pub trusted_proxies: Vec<IpNet>,
}
