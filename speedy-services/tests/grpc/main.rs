//! Every gRPC service and its client, over real sockets: what crosses, what is refused, what happens when a peer goes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chunk;
mod conformance;
mod image;
mod master;
mod meta;
mod several;

use std::time::Duration;

use speedy_services::address::{AddressList, HostPort};
use speedy_services::drain::Drain;
use speedy_services::{listen, wire};
use tonic::service::Routes;

/// A server of one test.
struct Server {
    address: HostPort,
    drain: Drain,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(routes: Routes) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), routes).await
    }

    async fn start_at(address: HostPort, routes: Routes) -> Self {
        let listener = listen::listen(&address, "--listen").await.unwrap();
        let address = listener.local_addr().unwrap().into();
        let drain = Drain::new(Duration::from_millis(200));
        let serving = wire::serve(listener, routes, drain.clone());
        let task = tokio::spawn(async { serving.await.unwrap() });
        Self { address, drain, task }
    }

    fn list(&self) -> AddressList {
        self.address.clone().into()
    }

    async fn stop(self) {
        self.drain.start();
        self.task.await.unwrap();
    }
}

/// An address of this machine that nobody listens on.
async fn nobody() -> HostPort {
    let listener = listen::listen(&"127.0.0.1:0".parse().unwrap(), "--listen").await.unwrap();
    listener.local_addr().unwrap().into()
}

fn list_of(addresses: &[&HostPort]) -> AddressList {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(",").parse().unwrap()
}
